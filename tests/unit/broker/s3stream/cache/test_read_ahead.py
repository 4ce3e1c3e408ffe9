"""Read-ahead: doubles for whoever reads on, nothing for whoever jumps."""

from automq.ids import Offset
from automq.s3stream.cache.read_ahead import FIRST_BYTES, READERS_MAX, ReadAhead


def test_first_read_loads_nothing_ahead() -> None:
    assert ReadAhead(8 * FIRST_BYTES).window(Offset(0)) == 0


def test_window_doubles_with_every_read_that_continues_and_is_bounded() -> None:
    policy = ReadAhead(4 * FIRST_BYTES)
    windows = []
    for start in range(0, 50, 10):
        windows.append(policy.window(Offset(start)))
        policy.advance(Offset(start), Offset(start + 10))

    assert windows == [0, FIRST_BYTES, 2 * FIRST_BYTES, 4 * FIRST_BYTES, 4 * FIRST_BYTES]


def test_jump_starts_anew() -> None:
    policy = ReadAhead(8 * FIRST_BYTES)
    policy.advance(Offset(0), Offset(10))

    assert policy.window(Offset(500)) == 0


def test_readers_of_one_stream_are_told_apart() -> None:
    policy = ReadAhead(8 * FIRST_BYTES)
    policy.advance(Offset(0), Offset(10))
    policy.advance(Offset(1000), Offset(1010))
    policy.advance(Offset(10), Offset(20))

    assert (policy.window(Offset(20)), policy.window(Offset(1010))) == (2 * FIRST_BYTES, FIRST_BYTES)


def test_idle_readers_are_forgotten_first() -> None:
    policy = ReadAhead(8 * FIRST_BYTES)
    for reader in range(READERS_MAX + 1):
        policy.advance(Offset(reader * 1000), Offset(reader * 1000 + 1))

    assert policy.window(Offset(1)) == 0
    assert policy.window(Offset(1001)) == FIRST_BYTES


def test_empty_read_moves_nobody() -> None:
    policy = ReadAhead(8 * FIRST_BYTES)
    policy.advance(Offset(5), Offset(5))

    assert policy.window(Offset(5)) == 0
