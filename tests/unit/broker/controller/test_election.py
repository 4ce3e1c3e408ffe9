"""When a broker may claim: the whole table, and the paths that matter through it."""

import itertools

import pytest

from automq.controller.election import NEXT, Event, Step, verdict


def path(first: Step, *events: Event) -> list[Step]:
    """The steps that these events lead through."""
    steps = [first]
    for event in events:
        steps.append(NEXT[steps[-1], event])
    return steps


def test_every_step_is_reached_and_left() -> None:
    assert set(NEXT.values()) == set(Step)
    assert {step for step, _event in NEXT} == set(Step)


def test_only_named_evidence_permits_a_claim() -> None:
    assert {pair for pair, following in NEXT.items() if following is Step.CLAIM} == {
        (Step.READ, Event.NOBODY),
        (Step.READ, Event.OURS),
        (Step.CONFIRM, Event.REFUSED),
        (Step.WATCH, Event.PERMITTED),
        (Step.WATCH, Event.STILL),
        (Step.FOLLOW, Event.NAMED),
    }


def test_refusal_is_confirmed_once_more_before_the_claim() -> None:
    assert path(Step.FOLLOW, Event.LOST, Event.ADDRESS, Event.REFUSED, Event.REFUSED, Event.WON) == [
        Step.FOLLOW,
        Step.READ,
        Step.CONNECT,
        Step.CONFIRM,
        Step.CLAIM,
        Step.LEAD,
    ]
    assert path(Step.CONNECT, Event.REFUSED, Event.HEARD)[-1] is Step.FOLLOW


def test_silence_asks_the_others_and_then_the_lease() -> None:
    assert path(Step.FOLLOW, Event.SILENT, Event.OBJECTED, Event.RESTED)[-1] is Step.READ
    assert path(Step.FOLLOW, Event.SILENT, Event.PERMITTED)[-1] is Step.CLAIM
    assert path(Step.FOLLOW, Event.SILENT, Event.RENEWED)[-1] is Step.REST
    assert path(Step.FOLLOW, Event.SILENT, Event.STILL)[-1] is Step.CLAIM


def test_lost_race_rests_before_the_claims_are_read_again() -> None:
    assert path(Step.CLAIM, Event.BEATEN, Event.RESTED) == [Step.CLAIM, Step.REST, Step.READ]
    # Who has won is followed as soon as it answers: its sessions begin with its claim.
    assert path(Step.CLAIM, Event.BEATEN, Event.HEARD)[-1] is Step.FOLLOW
    # Who finds a newer claim before it tries has lost no race: cluster seed 171 was fenced while it rested.
    assert path(Step.CLAIM, Event.NEWER) == [Step.CLAIM, Step.READ]


def test_no_way_leads_from_step_to_step_without_an_event() -> None:
    assert all(step is not following for (step, _event), following in NEXT.items())


@pytest.mark.parametrize(("hearing", "answers"), list(itertools.combinations_with_replacement(range(3), 2)))
def test_one_that_hears_forbids_and_silence_does_not(answers: int, hearing: int) -> None:
    expected = Event.OBJECTED if hearing else Event.PERMITTED if answers else Event.NOBODY
    assert verdict(answers, hearing) is expected
