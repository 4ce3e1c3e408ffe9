"""Nothing is old while wall time is in doubt."""

import pytest

from automq.runtime.telemetry import Metrics
from automq.runtime.wall_time import TrustedTime, WallTimeGuard

MINUTE, HOUR, DAY = 60.0, 3_600.0, 86_400.0


class Machine:
    """Its clocks. Sleep is time since boot, and no monotonic time."""

    def __init__(self, *, booted_s: float = 1_000.0) -> None:
        self.wall_s, self.booted_s, self.awake_s = 1_700_000_000.0, booted_s, booted_s

    def wall_ms(self) -> int:
        return int(self.wall_s * 1000)

    def monotonic(self) -> float:
        return self.awake_s

    def boottime(self) -> float:
        return self.booted_s

    def pass_time(self, seconds: float, *, asleep: bool = False) -> None:
        self.wall_s += seconds
        self.booted_s += seconds
        self.awake_s += 0.0 if asleep else seconds


class World:
    def __init__(self) -> None:
        self.machine = Machine()
        self.metrics = Metrics()
        self.guard = WallTimeGuard(self.machine, self.metrics)

    def doubts(self, seconds: float, *, every_s: float = 5 * MINUTE) -> list[bool]:
        """Look that often for so long."""
        found = []
        for _ in range(int(seconds / every_s)):
            self.machine.pass_time(every_s)
            found.append(self.guard.is_in_doubt())
        return found

    @property
    def paused(self) -> float | None:
        return self.metrics.registry.get_sample_value("automq_retention_paused")


@pytest.fixture
def world() -> World:
    return World()


def test_time_that_passes_is_trusted(world: World) -> None:
    assert not any(world.doubts(3 * DAY))
    assert world.guard.aging_ms() == world.machine.wall_ms()
    assert world.paused == 0


@pytest.mark.parametrize("by_s", [30 * DAY, -30 * DAY, HOUR + 1, -HOUR - 1])
def test_jump_is_in_doubt_for_an_hour_and_said_once(
    world: World, by_s: float, caplog: pytest.LogCaptureFixture
) -> None:
    world.machine.wall_s += by_s

    assert world.doubts(HOUR) == [True] * 12
    assert world.guard.aging_ms() == 0
    assert world.paused == 1
    assert [record.message for record in caplog.records] == [
        "wall time has jumped: nothing is deleted by age until it is back, or has held for an hour"
    ]
    assert vars(caplog.records[0])["by_s"] == pytest.approx(by_s, abs=1)
    assert not any(world.doubts(DAY))
    assert len(caplog.records) == 2
    assert world.paused == 0


def test_clock_that_is_put_right_is_trusted_at_once(world: World) -> None:
    world.machine.wall_s += 30 * DAY
    assert all(world.doubts(30 * MINUTE))

    world.machine.wall_s -= 30 * DAY

    assert not any(world.doubts(DAY))


def test_every_further_jump_begins_the_hour_anew(world: World, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(5):
        world.machine.wall_s += DAY
        assert all(world.doubts(50 * MINUTE))

    assert len(caplog.records) == 5
    assert world.doubts(HOUR)[-1] is False


@pytest.mark.parametrize("by_s", [59 * MINUTE, -59 * MINUTE])
def test_less_than_an_hour_is_no_jump(world: World, by_s: float) -> None:
    world.machine.wall_s += by_s

    assert not any(world.doubts(DAY))


def test_clock_that_is_slewed_is_followed(world: World) -> None:
    for _ in range(48):
        world.machine.wall_s += 30 * MINUTE
        assert not world.guard.is_in_doubt()
        world.machine.pass_time(HOUR)


def test_suspend_is_no_jump(world: World) -> None:
    """Against monotonic time, which stands still meanwhile, it would be one."""
    world.machine.pass_time(8 * HOUR, asleep=True)

    assert not any(world.doubts(DAY))


def test_jump_while_the_machine_sleeps_is_one(world: World) -> None:
    world.machine.pass_time(8 * HOUR, asleep=True)
    world.machine.wall_s += 2 * DAY

    assert world.guard.is_in_doubt()


@pytest.mark.parametrize("booted_s", [5.0, 400 * DAY])
def test_restart_takes_the_time_that_it_finds(world: World, booted_s: float) -> None:
    """A reboot begins the time since boot anew: it is compared within one process only."""
    world.machine.wall_s += 30 * DAY
    assert world.guard.is_in_doubt()
    world.machine.booted_s = booted_s

    world.guard = WallTimeGuard(world.machine, Metrics())

    assert not any(world.doubts(DAY))


def test_restart_in_the_same_boot_is_no_way_around_a_jump(world: World) -> None:
    world.guard = WallTimeGuard(world.machine, Metrics(), boot_id="b")
    world.machine.wall_s += 30 * DAY
    assert world.guard.is_in_doubt()
    noted = world.guard.trusted

    world.guard = WallTimeGuard(world.machine, Metrics(), boot_id="b", before=noted)

    assert world.doubts(HOUR) == [True] * 12
    assert not any(world.doubts(DAY))


@pytest.mark.parametrize("before", [None, TrustedTime(boot_id="another", offset_ms=0)])
def test_note_of_another_boot_says_nothing(world: World, before: TrustedTime | None) -> None:
    world.guard = WallTimeGuard(world.machine, Metrics(), boot_id="b", before=before)

    assert not any(world.doubts(DAY))
    assert not WallTimeGuard(world.machine, Metrics(), before=TrustedTime(boot_id="", offset_ms=0)).is_in_doubt()
