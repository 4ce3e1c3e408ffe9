"""Pure: a state of many small entries, kept encoded, and checkpoints of it that cost what changed.

A checkpoint is base plus deltas, written in pieces. A piece has what changed since the piece before, the delta, and
carries along some of the entries that have not been written for longest: a part of the base. Read in order, with later
entries in the place of earlier ones, the newest pieces give the whole state as soon as they reach back to the longest
unwritten entry (`oldest_piece`). So a base is never written at once, however large the state is,
and no turn of the loop copies one: each change carries a few entries along, as many as the bytes allow that the caller
has earned with its records.

Order of `_entries`: by when they were last written, longest ago first. A `_Mark` closes what a piece holds.
"""

from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from itertools import chain
from typing import Any, Final, Generic, TypeVar

import msgspec

K = TypeVar("K")

# Bytes of state that may be written for each byte of the records that changed it.
BYTES_A_RECORD_BYTE: Final = 2
# With how many bytes of records one more entry is carried along: few pieces make a whole checkpoint then, however large
# records are, and the time that takes is nothing beside that of the records.
CARRY_BYTES: Final = 4096
# Freed in one turn of the loop.
RELEASED_A_TURN: Final = 5_000


class _Mark:
    """Everything before it, and behind the mark before, is in the piece of that number."""

    __slots__ = ("number",)

    def __init__(self, number: int) -> None:
        self.number = number


class Capture(msgspec.Struct, frozen=True):
    """What one piece is to hold: entries as they were when it was captured, to be joined at leisure."""

    carried: dict[Any, bytes]
    changed: dict[Any, bytes]
    """To be read after the others. Holds what says that a key is gone, too."""

    def __len__(self) -> int:
        return len(self.carried) + len(self.changed)

    def entries(self) -> Iterator[bytes]:
        """All of them, in the order in which they are to be read."""
        return chain(self.carried.values(), self.changed.values())

    def release(self) -> Iterator[None]:
        """Free what is held, some of it each time it is asked for more."""
        for held in (self.carried, self.changed):
            while held:
                for _ in range(min(len(held), RELEASED_A_TURN)):
                    held.popitem()
                yield


class Entries(Generic[K]):
    """Entries by key; an entry's bytes hold its key. `tombstone` encodes that a key is gone."""

    __slots__ = (
        "_carried",
        "_carried_bytes",
        "_changed",
        "_changed_bytes",
        "_count",
        "_entries",
        "_marks",
        "_tombstone",
        "credit",
        "size",
    )

    def __init__(self, tombstone: Callable[[K], bytes]) -> None:
        self._tombstone = tombstone
        self._entries: OrderedDict[Any, bytes] = OrderedDict()
        self._marks: deque[_Mark] = deque()
        self._changed: dict[K, bytes] = {}
        self._carried: dict[K, bytes] = {}
        self._changed_bytes = self._carried_bytes = self._count = 0
        self.size = 0
        """Bytes of all entries."""
        self.credit = 0
        """Bytes that may be written for what was earned, less what was captured."""

    def __len__(self) -> int:
        return self._count

    def get(self, key: K) -> bytes | None:
        """One entry."""
        return self._entries.get(key)

    def all_keys(self) -> list[K]:
        """All of them, those not written for longest first."""
        return [key for key in self._entries if key.__class__ is not _Mark]

    def oldest(self, count: int) -> Iterator[K]:
        """So many keys of those that have not been written for longest."""
        for key in self._entries:
            if key.__class__ is not _Mark:
                if count <= 0:
                    return
                count -= 1
                yield key

    def values(self) -> Iterator[bytes]:
        """All entries, in the same order."""
        return (entry for key, entry in self._entries.items() if key.__class__ is not _Mark)

    @property
    def pending_bytes(self) -> int:
        """Of the piece that would be captured now."""
        return self._changed_bytes + self._carried_bytes

    @property
    def is_changed(self) -> bool:
        """Whether something changed since the newest piece."""
        return bool(self._changed)

    def set(self, key: K, entry: bytes) -> None:
        """The key has a new entry."""
        self._put(key, entry)
        self._change(key, entry)

    def delete(self, key: K) -> None:
        """The key is gone; nothing if it never was."""
        before = self._entries.pop(key, None)
        if before is None:
            return
        self._count -= 1
        self.size -= len(before)
        self._change(key, self._tombstone(key))

    def earn(self, record_bytes: int) -> None:
        """Records of so many bytes changed the state: carry along what may be written for them."""
        self.credit += record_bytes * BYTES_A_RECORD_BYTE
        self.carry(1 + record_bytes // CARRY_BYTES, bytes_max=self.credit - self.pending_bytes)

    def carry(self, count: int, *, bytes_max: int | None = None, through: int | None = None) -> bool:
        """Carry up to `count` entries along, of those that have not been written for longest; whether more are left.

        With `through` only such as the piece of that number or one before it holds.
        """
        entries, marks = self._entries, self._marks
        while marks:
            key = next(iter(entries))
            if key is marks[0]:
                del entries[key]
                marks.popleft()
                continue
            if through is not None and marks[0].number > through:
                return False
            entry = entries[key]
            if count <= 0 or (bytes_max is not None and len(entry) > bytes_max):
                return True
            count -= 1
            if bytes_max is not None:
                bytes_max -= len(entry)
            entries.move_to_end(key)
            self._carried[key] = entry
            self._carried_bytes += len(entry)
        return False

    def capture(self, number: int) -> Capture:
        """The piece of that number, higher than any before: what is pending. Between two turns of the loop."""
        if not (self._changed or self._carried):
            self.credit = max(0, self.credit)
            self._close(number)
            return Capture({}, {})
        carried, self._carried = self._carried, {}
        changed, self._changed = self._changed, {}
        self.credit = max(0, self.credit - self.pending_bytes)
        self._changed_bytes = self._carried_bytes = 0
        self._close(number)
        return Capture(carried, changed)

    def restore(self, key: K, entry: bytes | None) -> None:
        """Of a piece that is read, in its order; None where the key is gone."""
        if entry is not None:
            self._put(key, entry)
            return
        before = self._entries.pop(key, None)
        if before is not None:
            self._count -= 1
            self.size -= len(before)

    def restored(self, number: int) -> None:
        """All of the piece of that number was read."""
        self._close(number)

    def _put(self, key: K, entry: bytes) -> None:
        entries = self._entries
        before = entries.get(key)
        entries[key] = entry
        if before is None:
            self._count += 1
            self.size += len(entry)
        else:
            self.size += len(entry) - len(before)
            entries.move_to_end(key)

    def _change(self, key: K, entry: bytes) -> None:
        before = self._changed.get(key)
        self._changed_bytes += len(entry) if before is None else len(entry) - len(before)
        self._changed[key] = entry
        carried = self._carried.pop(key, None)
        if carried is not None:
            self._carried_bytes -= len(carried)

    def _close(self, number: int) -> None:
        if not self._count:
            # Marks that nothing lies between.
            self._entries.clear()
            self._marks.clear()
            return
        mark = _Mark(number)
        self._entries[mark] = b""
        self._marks.append(mark)

    def oldest_piece(self, number: int) -> int:
        """The piece that the longest unwritten entry is in, when `number` is that of the next one."""
        entries, marks = self._entries, self._marks
        while marks and next(iter(entries)) is marks[0]:
            del entries[marks.popleft()]
        return marks[0].number if marks else number
