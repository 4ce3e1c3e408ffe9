"""Delays grow, stay bounded and start small again after a success."""

from hypothesis import given
from hypothesis import strategies as st

from automq.runtime.backoff import Backoff
from automq.runtime.entropy import SeededEntropy


@given(seed=st.integers(), tries=st.integers(1, 2000))
def test_delay_lies_in_the_upper_half_of_its_step(seed: int, tries: int) -> None:
    backoff = Backoff(entropy=SeededEntropy(seed), first_s=0.1, max_s=5.0)
    for attempt in range(tries):
        ceiling = min(5.0, 0.1 * 2.0 ** min(attempt, 30))
        assert ceiling / 2 <= backoff.next_s() <= ceiling
    assert backoff.attempts == tries


def test_reset_starts_small_again() -> None:
    backoff = Backoff(entropy=SeededEntropy(1), first_s=0.1, max_s=5.0)
    for _ in range(9):
        backoff.next_s()
    backoff.reset()
    assert backoff.next_s() <= 0.1
