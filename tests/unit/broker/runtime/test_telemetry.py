"""Two brokers in one process keep their metrics apart."""

from automq.runtime.telemetry import Metrics


def test_registries_are_separate() -> None:
    one, other = Metrics(), Metrics()
    one.counter("automq_appends", "Appends.").inc(3)
    other.counter("automq_appends", "Appends.")

    assert b"automq_appends_total 3.0" in one.render()
    assert b"automq_appends_total 0.0" in other.render()
