"""Rule of back-pressure: a Produce is not even taken in while the engine has no room for it."""

from collections.abc import Callable

from automq.callbacks import ignore
from automq.s3stream.append_path import AppendPath


class RoomWait:
    """One connection's wait for room, of which it needs one at a time."""

    __slots__ = ("_append_path", "_is_waiting", "_on_room")

    def __init__(self, append_path: AppendPath, on_room: Callable[[], None]) -> None:
        self._append_path, self._on_room = append_path, on_room
        self._is_waiting = False

    def begin(self) -> bool:
        """Have `on_room` called when there is some. False: there is none now."""
        if not self._is_waiting:
            self._is_waiting = True
            self._append_path.when_room(self._end)
        return False

    def close(self) -> None:
        """The connection is gone, and not referred to from here."""
        self._on_room = ignore

    def _end(self) -> None:
        self._is_waiting = False
        self._on_room()
