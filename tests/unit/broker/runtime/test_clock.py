"""The system clock's two readings."""

from automq.runtime.clock import SystemClock


def test_monotonic_time_never_goes_back() -> None:
    clock = SystemClock()
    readings = [clock.monotonic() for _ in range(1000)]
    assert readings == sorted(readings)
    assert clock.wall_ms() > 1_700_000_000_000
