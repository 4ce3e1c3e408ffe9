"""Whom the controller takes for dead, and whom it must not."""

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from automq.controller.sessions import PAUSE_S_MAX, SILENT, Incarnation, Sessions
from automq.ids import BrokerEpoch, NodeId

SESSION_S = 3.0
LOOK_S = 0.1


def key(node: int, epoch: int = 1) -> Incarnation:
    return NodeId(node), BrokerEpoch(epoch)


def sessions(*nodes: int) -> Sessions:
    table = Sessions(session_s=SESSION_S, own=NodeId(0), now=0.0)
    table.follow(map(key, (0, *nodes)), 0.0)
    return table


def pass_time(
    table: Sessions, start: float, end: float, *, recent_epoch: Sequence[int] = ()
) -> list[tuple[float, Sequence[Incarnation]]]:
    """The loop runs, `recent_epoch` say that they are there; who expires is fenced, so it is not expected any more."""
    fenced: list[tuple[float, Sequence[Incarnation]]] = []
    steps = round((end - start) / LOOK_S)
    for step in range(1, steps + 1):
        now = start + step * LOOK_S
        for node in recent_epoch:
            table.hear(key(node), now)
        table.tick(now)
        verdict = table.verdict()
        if verdict.expired:
            fenced.append((round(now, 1), verdict.expired))
            table.follow([each for each in map(key, range(9)) if each not in verdict.expired], now)
    return fenced


def test_who_says_nothing_for_a_session_expires_and_nobody_else() -> None:
    table = sessions(1, 2, 3)
    assert pass_time(table, 0, 2.8, recent_epoch=[2, 3]) == []
    table = sessions(1, 2, 3)
    (found,) = pass_time(table, 0, 3.2, recent_epoch=[2, 3])
    assert found[1] == [key(1)]
    assert found[0] in (3.0, 3.1)


def test_the_controllers_own_broker_never_expires() -> None:
    table = sessions()
    assert table.count == 0
    assert pass_time(table, 0, 60) == []


def test_a_newer_incarnation_has_a_session_of_its_own() -> None:
    table = sessions(1, 2)
    pass_time(table, 0, 2.5, recent_epoch=[2])
    table.follow([key(1, 2), key(2)], 2.5)
    table.hear(key(1, 1), 2.6)
    for now in (2.7, 3.1, 3.5, 3.9, 4.3, 4.7, 5.1, 5.4):
        table.hear(key(2), now)
        table.tick(now)
        assert table.verdict() is SILENT
    table.tick(5.6)
    assert table.verdict().expired == [key(1, 2)]


def test_time_in_which_the_loop_did_not_run_ages_nobody() -> None:
    """Its sockets may be full of heartbeats."""
    table = sessions(1, 2, 3)
    pass_time(table, 0, 2.9, recent_epoch=[2, 3])
    table.tick(2.9 + PAUSE_S_MAX + 0.2)
    assert table.verdict() is SILENT
    assert pass_time(table, 3.6, 6.4, recent_epoch=[2, 3]) == []
    assert [each for _, each in pass_time(table, 6.4, 6.8, recent_epoch=[2, 3])] == [[key(1)]]


def test_more_than_half_at_once_need_a_proof_and_wait_one_more_session() -> None:
    table = sessions(1, 2, 3)
    assert pass_time(table, 0, 2.9) == []
    table.tick(3.0)
    assert table.verdict().is_proof_needed
    table.tick(3.1)
    assert table.verdict().is_proof_needed, "until it is proved nobody is fenced"
    table.proved(3.1)
    assert pass_time(table, 3.1, 6.0) == []
    assert [each for _, each in pass_time(table, 6.0, 6.3)] == [[key(1), key(2), key(3)]]


def test_who_speaks_again_after_the_proof_is_not_taken_for_proved() -> None:
    table = sessions(1, 2, 3)
    pass_time(table, 0, 2.9)
    table.tick(3.0)
    table.proved(3.0)
    table.tick(3.4)
    for node in (1, 2, 3):
        table.hear(key(node), 3.5)
    table.tick(3.5)
    for step in range(1, 30):
        table.tick(3.5 + step * LOOK_S)
        assert table.verdict() is SILENT
    table.tick(6.5)
    assert table.verdict().is_proof_needed


def test_half_of_the_cluster_at_once_needs_no_proof() -> None:
    """Three of six, the controller's own counted."""
    table = sessions(1, 2, 3, 4, 5)
    found = pass_time(table, 0, 3.2, recent_epoch=[4, 5])
    assert [each for _, each in found] == [[key(1), key(2), key(3)]]


@given(
    st.lists(
        st.tuples(st.sampled_from(["look", "hear", "pause", "judge", "proved", "join", "leave"]), st.integers(1, 4)),
        max_size=120,
    )
)
def test_nobody_expires_who_was_heard_within_a_session_of_the_loops_own_time(steps: list[tuple[str, int]]) -> None:
    now, table = 0.0, sessions(1, 2, 3, 4)
    members = {1, 2, 3, 4}
    ran = dict.fromkeys(members, 0.0)
    """How long the loop ran without a gap since each was heard of last."""
    for what, node in steps:
        match what:
            case "look":
                now += 0.4
                table.tick(now)
                ran = {each: silent + 0.4 for each, silent in ran.items()}
            case "pause":
                now += 0.6
                table.tick(now)
                ran = dict.fromkeys(ran, 0.0)
            case "hear":
                table.hear(key(node), now)
                if node in ran:
                    ran[node] = 0.0
            case "proved":
                if table.verdict().is_proof_needed:
                    table.proved(now)
                    ran = {each: 0.0 if silent >= SESSION_S - 1.0 else silent for each, silent in ran.items()}
            case "join":
                members.add(node)
                ran.setdefault(node, 0.0)
                table.follow(map(key, sorted(members)), now)
            case "leave":
                members.discard(node)
                ran.pop(node, None)
                table.follow(map(key, sorted(members)), now)
            case "judge":
                verdict = table.verdict()
                assert set(verdict.expired) <= {key(each) for each in members}
                assert all(ran[each[0]] >= SESSION_S - 1e-6 for each in verdict.expired)
                if not verdict.is_proof_needed:
                    late = [each for each, silent in ran.items() if silent >= SESSION_S + 1e-6]
                    assert {key(each) for each in late} <= set(verdict.expired)
