"""When a partition's checkpoint gets another piece, and what is in it.

Writing a piece costs bytes and a place in the metadata; not writing it costs whoever opens the partition next the
reading of more records. So a piece is due when it is worth its place, when it may be written for the records that
changed the state (no more than twice their bytes), and at the latest when the records behind the newest piece are as
large as the state is. The state of a partition with a few producers is written whole each time.

The pieces of two whole checkpoints are kept: those of the newest, and those of the one before the oldest of them. No
piece is in both, so that damage of one costs the reading of some more records and not the state.
"""

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from automq.ids import Offset
from automq.partition import checkpoint, producer_state
from automq.partition.checkpoint import CapturedSection, Section
from automq.partition.leader_epochs import LeaderEpochs
from automq.partition.producer_state import ProducerState
from automq.replicated.entries import Entries
from automq.replicated.sharded_entries import ShardedEntries
from automq.s3stream.model import CHECKPOINTS_KEPT_MAX, CheckpointPiece

AnyEntries = Entries[int] | ShardedEntries

# A piece holds this share of the state at least.
PIECES_OF_A_WHOLE: Final = 32
# So little is always written, and whole.
SMALL_BYTES: Final = 512
# Records that whoever opens the partition reads behind the newest piece: as many as the state has bytes, within these.
TAIL_BYTES_MIN: Final = 256 * 1024
TAIL_BYTES_MAX: Final = 64 * 1024 * 1024
# Entries carried along in one turn.
CARRY_A_TURN: Final = 2_000
# Container, heads of sections and payloads, checksum.
OVERHEAD_BYTES: Final = 80


class StreamEnds(Protocol):
    """A stream, as far as it matters here."""

    start_offset: Offset
    next_offset: Offset


@dataclass(slots=True)
class LoadedPieces:
    """What a partition's state was made of."""

    number: int = 0
    """How many pieces there are, those that were not needed included: the next one has a number above."""
    offset: Offset = Offset(0)
    """What the newest of them describes."""
    pieces: dict[int, int] = field(default_factory=dict)
    """For each that was read: how many a whole checkpoint at it consists of."""
    sections: list[tuple[int | None, str, Section]] = field(default_factory=list)
    """Those of others than the partition itself, each with the number of its piece; None: write it all anew."""


@dataclass(frozen=True, slots=True)
class _Attached:
    entries: AnyEntries
    head: Callable[[int], bytes]


class Checkpointing:
    """Decides for one opening of a partition, and captures."""

    def __init__(self, producers: ProducerState, epochs: LeaderEpochs, loaded: LoadedPieces) -> None:
        self._producers, self._epochs = producers, epochs
        self._number, self._offset = loaded.number, loaded.offset
        self._pieces = dict(loaded.pieces)
        self._sections = list(loaded.sections)
        self._attached: dict[str, _Attached] = {}
        self._taken: set[str] = set()
        """Sections that somebody has read and not attached yet: no piece is written meanwhile."""
        self.tail_bytes = 0
        """Of the records behind the newest piece."""

    def sections(self, name: str) -> Sequence[tuple[int | None, Section]] | None:
        """What was loaded for that section, in order; None when it was handed out before and has to be read again."""
        if name in self._attached:
            return None
        self._taken.add(name)
        return [(number, section) for number, found, section in self._sections if found == name]

    def attach(self, name: str, entries: ShardedEntries, head: Callable[[int], bytes]) -> None:
        """From now on pieces have these entries; see `Partition.attach_checkpoint`."""
        self._attached[name] = _Attached(entries, head)
        self._taken.discard(name)
        self._sections = [found for found in self._sections if found[1] != name]

    def capture(self, stream: StreamEnds, *, is_forced: bool) -> CheckpointPiece | None:
        """The next piece, describing the state at exactly the stream's end; None when none is due."""
        if not (self._attached or self._sections or self._taken):
            small = self._captured_small(stream.next_offset)
            if small is not None:
                return small
        states: list[AnyEntries] = [
            self._producers.entries,
            *(attached.entries for attached in self._attached.values()),
        ]
        held_bytes = sum(state.size for state in states)
        if held_bytes <= SMALL_BYTES:
            for state in states:
                state.carry(len(state))
        # What lies between the newest piece and the start of the log is known here alone.
        is_forced = is_forced or stream.start_offset > self._offset
        if self._taken or not (is_forced or self._is_due(states, held_bytes)):
            return None
        number = self._number + 1
        is_long = max(number - state.oldest_piece(number) for state in states) >= CHECKPOINTS_KEPT_MAX // 2
        if is_long or self._pending_bytes(states) * PIECES_OF_A_WHOLE < held_bytes:
            for state in states:
                state.carry(CARRY_A_TURN)
        pieces = max(number - state.oldest_piece(number) + 1 for state in states)
        if pieces > CHECKPOINTS_KEPT_MAX:
            return None
        return self._captured(number, stream.next_offset, pieces)

    def _captured_small(self, offset: Offset) -> CheckpointPiece | None:
        """The whole of what most partitions have, made in the turns of a seal by the ten thousand; None if it is more.

        What it decides, and its bytes, are those of the general case.
        """
        entries = self._producers.entries
        if entries.size > SMALL_BYTES:
            return None
        entries.carry(len(entries))
        epochs = self._epochs.encode()
        if len(epochs) + entries.pending_bytes > SMALL_BYTES:
            return None
        entries.credit -= OVERHEAD_BYTES + len(epochs)
        self._number = number = self._number + 1
        captured = entries.capture(number)
        producers = producer_state.payload_head(len(captured)) + b"".join(captured.entries())
        data = checkpoint.encode_small(offset, producers=producers, leader_epochs=epochs)
        self._offset, self.tail_bytes = offset, 0
        self._pieces[number] = 1
        return CheckpointPiece(kept=self._kept(number), size=len(data), data=data)

    def _captured(self, number: int, offset: Offset, pieces: int) -> CheckpointPiece:
        size = self._overhead_bytes()
        sections = [checkpoint.whole_section(name, section) for _, name, section in self._sections]
        self._sections = [(None, name, section) for _, name, section in self._sections]
        self._producers.entries.credit -= size
        producers = _Attached(self._producers.entries, producer_state.payload_head)
        for name, attached in {checkpoint.PRODUCERS: producers, **self._attached}.items():
            size += attached.entries.pending_bytes
            captured = attached.entries.capture(number)
            sections.append(CapturedSection(name, offset, captured, attached.head))
        epochs = Section(offset, self._epochs.encode())
        sections.append(checkpoint.whole_section(checkpoint.LEADER_EPOCHS, epochs))
        self._number, self._offset, self.tail_bytes = number, offset, 0
        self._pieces[number] = pieces
        return CheckpointPiece(kept=self._kept(number), size=size, encode=_EncodedOnce(pieces, sections))

    def _kept(self, number: int) -> int:
        """How many pieces the two whole checkpoints have together."""
        pieces = self._pieces[number]
        before = number - pieces
        # Where nothing is known of the one before, all that there is stays until something is.
        total = pieces + self._pieces.get(before, before) if before > 0 else number
        kept = min(max(total, pieces), CHECKPOINTS_KEPT_MAX)
        for old in [old for old in self._pieces if old <= number - kept]:
            del self._pieces[old]
        return kept

    def carry_all(self) -> Iterator[None]:
        """Carry everything along, a turn's work each time it is asked for more: the next piece is the whole state."""
        for state in (self._producers.entries, *(attached.entries for attached in self._attached.values())):
            while state.carry(CARRY_A_TURN):
                yield

    def _is_due(self, states: Sequence[AnyEntries], held_bytes: int) -> bool:
        pending, credit = self._pending_bytes(states), sum(state.credit for state in states)
        if held_bytes <= SMALL_BYTES and pending <= SMALL_BYTES + OVERHEAD_BYTES:
            return True
        if pending <= credit and pending * PIECES_OF_A_WHOLE >= held_bytes:
            return True
        return self.tail_bytes >= min(max(TAIL_BYTES_MIN, held_bytes), TAIL_BYTES_MAX)

    def _pending_bytes(self, states: Sequence[AnyEntries]) -> int:
        return self._overhead_bytes() + sum(state.pending_bytes for state in states)

    def _overhead_bytes(self) -> int:
        handed_on = sum(len(section.payload) for _, _, section in self._sections)
        return OVERHEAD_BYTES + self._epochs.size + handed_on


class _EncodedOnce:
    """The bytes of a piece; what they were made of is freed in turns."""

    __slots__ = ("_buffers", "_pieces", "_sections")

    def __init__(self, pieces: int, sections: Sequence[CapturedSection]) -> None:
        self._pieces, self._sections = pieces, sections
        self._buffers: list[bytes] | None = None

    def __call__(self) -> Generator[None, None, list[bytes]]:
        if self._buffers is None:
            self._buffers = yield from checkpoint.encode(self._pieces, self._sections)
            for section in self._sections:
                yield from section.captured.release()
            self._sections = ()
        return self._buffers
