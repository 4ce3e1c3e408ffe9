"""Ages by one clock: they begin when something is first seen, end when it is not, and stop growing."""

from automq_operator.ages import AGE_MAX_S, Ages


def test_ages() -> None:
    ages = Ages()
    assert ages.age_s("a", 10.0) == 0.0
    assert ages.age_s("a", 13.0) == 3.0
    assert ages.age_s("a", 14.0, holds=False) == 0.0
    assert ages.age_s("a", 15.0) == 0.0
    assert ages.age_s("a", 1e9) == AGE_MAX_S


def test_what_is_gone_is_forgotten() -> None:
    ages = Ages()
    ages.age_s("a", 1.0)
    ages.age_s("b", 1.0)
    ages.forget_all_but({"b"})
    assert (ages.age_s("a", 5.0), ages.age_s("b", 5.0)) == (0.0, 4.0)
