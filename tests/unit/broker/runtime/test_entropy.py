"""Seeded entropy repeats; the system's does not."""

from automq.runtime.entropy import SeededEntropy, SystemEntropy


def test_one_seed_gives_one_sequence() -> None:
    one, other = SeededEntropy(7), SeededEntropy(7)
    assert [one.token(8), one.fraction(), one.uuid()] == [other.token(8), other.fraction(), other.uuid()]
    assert SeededEntropy(8).token(8) != SeededEntropy(7).token(8)


def test_system_entropy_differs_each_time() -> None:
    entropy = SystemEntropy()
    assert entropy.token(16) != entropy.token(16)
    assert entropy.uuid() != entropy.uuid()
    assert 0 <= entropy.fraction() < 1
