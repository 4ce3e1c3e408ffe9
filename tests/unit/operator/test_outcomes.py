"""What became of actions: told when it stands, tried again in time, forgotten when nobody wants it any more."""

from automq_operator.outcomes import PASSING_TOLD_AFTER, REFUSED_FIRST_S, REFUSED_MAX_S, Outcomes

KEY = ("Service", "demo-kafka")


def failed(outcomes: Outcomes, *, now: float, passing: bool = False, digest: str = "one", status: int = 422) -> None:
    outcomes.failed(KEY, digest=digest, status=status, message="no", passing=passing, now=now)


def test_a_refusal_is_told_at_once_and_tried_less_and_less() -> None:
    outcomes, now, waits = Outcomes(), 0.0, []
    for _ in range(12):
        failed(outcomes, now=now)
        assert not outcomes.refused(now)[KEY].due
        wait = outcomes.next_s(now)
        assert wait is not None
        waits.append(wait)
        now += wait
        assert outcomes.refused(now)[KEY].due
    assert waits[0] == REFUSED_FIRST_S
    assert waits == sorted(waits)
    assert waits[-1] == REFUSED_MAX_S


def test_another_manifest_begins_anew() -> None:
    outcomes = Outcomes()
    for _ in range(5):
        failed(outcomes, now=0.0)
    failed(outcomes, now=0.0, digest="two")
    assert outcomes.next_s(0.0) == REFUSED_FIRST_S


def test_a_passing_failure_is_told_only_when_it_lasts() -> None:
    outcomes = Outcomes()
    for number in range(1, PASSING_TOLD_AFTER + 1):
        failed(outcomes, now=0.0, passing=True, status=429)
        assert (KEY in outcomes.refused(0.0)) == (number == PASSING_TOLD_AFTER)


def test_retry_after_is_obeyed() -> None:
    outcomes = Outcomes()
    outcomes.failed(KEY, digest="", status=429, message="", passing=True, retry_after_s=42.0, now=0.0)
    assert outcomes.next_s(0.0) == 42.0


def test_what_is_done_or_not_wanted_is_forgotten() -> None:
    outcomes = Outcomes()
    failed(outcomes, now=0.0)
    outcomes.done(KEY)
    assert outcomes.refused(0.0) == {}
    failed(outcomes, now=0.0)
    outcomes.keep({("Service", "another")})
    assert outcomes.refused(0.0) == {}
    assert outcomes.next_s(0.0) is None
