"""A connection waits for room once at a time."""

from collections.abc import Callable
from typing import Any, cast

from automq.s3stream.append_path import AppendPath
from automq.server.network.room_wait import RoomWait


class Room:
    """Of an engine."""

    def __init__(self) -> None:
        self.waiting: list[Callable[[], None]] = []

    def when_room(self, callback: Callable[[], None]) -> None:
        """As `Storage.when_room`."""
        self.waiting.append(callback)


def test_engine_is_asked_once_until_it_has_told() -> None:
    room, calls = Room(), [0]

    def on_room() -> None:
        calls[0] += 1

    wait = RoomWait(cast(AppendPath, cast(Any, room)), on_room)
    assert [wait.begin() for _ in range(3)] == [False] * 3
    assert len(room.waiting) == 1
    room.waiting.pop()()
    assert calls == [1]
    wait.begin()
    assert len(room.waiting) == 1
