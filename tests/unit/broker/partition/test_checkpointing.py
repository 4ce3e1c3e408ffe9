"""When a piece of a checkpoint is due, how many are kept, and what all of that costs."""

import random
from dataclasses import dataclass

import pytest

from automq.ids import Offset
from automq.partition import checkpoint
from automq.partition.checkpoint import Piece
from automq.partition.checkpointing import SMALL_BYTES, TAIL_BYTES_MIN, Checkpointing, LoadedPieces
from automq.partition.leader_epochs import LeaderEpochs
from automq.partition.producer_state import ProducerState
from automq.s3stream.model import CHECKPOINTS_KEPT_MAX
from automq.steps import at_once


@dataclass
class Ends:
    start_offset: Offset = Offset(0)
    next_offset: Offset = Offset(0)


class World:
    """A partition's state, its checkpoints as the metadata keep them, and what both cost."""

    def __init__(self) -> None:
        self.producers, self.epochs, self.stream = ProducerState(), LeaderEpochs(), Ends()
        self.checkpointing = Checkpointing(self.producers, self.epochs, LoadedPieces())
        self.pieces: list[Piece] = []
        self.written = self.record_bytes = 0
        self.longest = 0

    def write(self, producer: int, sequence: int = 0, *, size: int = 200) -> None:
        offset, self.stream.next_offset = self.stream.next_offset, Offset(self.stream.next_offset + 1)
        self.producers.record(
            producer, 0, sequence, 1, first_offset=offset, append_time_ms=-1, now_ms=offset, batch_bytes=size
        )
        self.record_bytes += size
        self.checkpointing.tail_bytes += size

    def upload(self, *, is_forced: bool = False) -> bool:
        """Whether a piece was written."""
        captured = self.checkpointing.capture(self.stream, is_forced=is_forced)
        if captured is None:
            return False
        body = captured.data if captured.encode is None else b"".join(at_once(captured.encode()))
        assert abs(len(body) - captured.size) < 100
        self.written += len(body)
        self.pieces = [*self.pieces, checkpoint.decode(body)][-captured.kept :]
        self.longest = max(self.longest, len(self.pieces))
        return True

    def restored(self, last: int | None = None) -> ProducerState:
        """From the newest piece, or one before it."""
        pieces = self.pieces[: len(self.pieces) if last is None else last]
        state = ProducerState()
        for number, piece in enumerate(pieces[len(pieces) - pieces[-1].pieces :], start=1):
            for name, section in piece.sections:
                if name == checkpoint.PRODUCERS:
                    finish_all(state.restore(section.payload, number=number))
        return state

    def known(self) -> set[object]:
        return set(self.producers)


def finish_all(turns) -> None:  # type: ignore[no-untyped-def]
    for _ in turns:
        pass


@pytest.mark.parametrize("producers", [0, 1, 3])
def test_small_state_has_the_bytes_of_any_other(producers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Made at one go, and in the way that is for states of any size: the same decisions, the same bytes."""
    pieces: list[list[tuple[int, bytes]]] = []
    credits: list[int] = []
    for is_small in (True, False):
        if not is_small:
            monkeypatch.setattr(Checkpointing, "_captured_small", lambda self, offset: None)
        world, made = World(), list[tuple[int, bytes]]()
        world.epochs.assign(3, Offset(0))
        for sequence in range(6):
            for producer in range(producers):
                if (sequence + producer) % 3:
                    world.write(producer, sequence)
            if sequence == 3:
                world.producers.entries.delete(0)
                world.epochs.assign(4, world.stream.next_offset)
            captured = world.checkpointing.capture(world.stream, is_forced=False)
            assert captured is not None
            assert (captured.encode is None) == is_small
            data = captured.data if captured.encode is None else b"".join(at_once(captured.encode()))
            made.append((captured.kept, data))
            credits.append(world.producers.entries.credit)
        pieces.append(made)
    assert pieces[0] == pieces[1]
    assert credits[:6] == credits[6:]


def test_small_state_is_written_whole_at_every_upload() -> None:
    world = World()
    for sequence in range(20):
        world.write(1, sequence)
        assert world.upload()
        assert [piece.pieces for piece in world.pieces] == [1] * min(2, sequence + 1)
        assert set(world.restored()) == world.known()
    assert world.producers.entries.size < SMALL_BYTES


@pytest.mark.parametrize("size", [110, 1_000, 50_000])
def test_a6_state_costs_at_most_twice_the_records_that_changed_it(size: int) -> None:
    dice, world = random.Random(size), World()
    sequences = dict.fromkeys(range(3_000), 0)
    for number in range(12_000):
        producer = dice.randrange(3_000)
        world.write(producer, sequences[producer], size=size)
        sequences[producer] += 1
        if not number % 97 and world.upload():
            assert set(world.restored()) == world.known()
    assert world.written <= 2 * world.record_bytes
    assert world.longest <= 140


def test_a6_one_small_write_into_a_large_state_is_no_large_upload() -> None:
    world = World()
    for producer in range(20_000):
        world.write(producer)
    assert world.upload()
    before = world.written
    for sequence in range(1, 100):
        world.write(0, sequence)
        world.upload()

    assert world.written - before <= 2 * 99 * 200


def test_records_behind_the_newest_piece_are_bounded_by_the_state() -> None:
    """Records that change little: whoever opens the partition reads as many as the state has bytes, or 256 KiB."""
    world = World()
    for producer in range(2_000):
        world.write(producer)
    assert world.upload()
    for _ in range(50):
        world.checkpointing.tail_bytes += TAIL_BYTES_MIN // 2 + 1
        world.stream.next_offset = Offset(world.stream.next_offset + 1)
        world.upload()
        assert world.checkpointing.tail_bytes <= TAIL_BYTES_MIN
    assert set(world.restored()) == world.known()
    assert world.longest < CHECKPOINTS_KEPT_MAX


def test_what_was_trimmed_beyond_the_newest_piece_makes_one_due() -> None:
    world = World()
    for producer in range(2_000):
        world.write(producer)
    assert world.upload()
    world.write(7, 1)
    assert not world.upload()

    world.stream.start_offset = world.stream.next_offset

    assert world.upload()
    assert set(world.restored()) == world.known()


def test_two_whole_checkpoints_without_a_piece_in_common_are_kept() -> None:
    dice, world = random.Random(5), World()
    sequences = dict.fromkeys(range(800), 0)
    for number in range(8_000):
        producer = dice.randrange(800)
        world.write(producer, sequences[producer], size=400)
        sequences[producer] += 1
        if number % 50 == 0:
            world.upload()
    newest = world.pieces[-1].pieces
    older = len(world.pieces) - newest

    assert older >= 1
    assert world.pieces[older - 1].pieces <= older
    assert len(world.restored(older)) == 800


def test_writing_everything_anew_needs_no_piece_before() -> None:
    world = World()
    for producer in range(5_000):
        world.write(producer)
        if producer % 500 == 0:
            world.upload()
    assert world.pieces[-1].pieces > 1

    assert len(list(world.checkpointing.carry_all())) >= 1, "in turns"
    assert world.upload(is_forced=True)

    assert world.pieces[-1].pieces == 1
    assert set(world.restored()) == world.known()


def test_forgotten_producers_stay_forgotten() -> None:
    world = World()
    for producer in range(2_000):
        world.write(producer)
    world.upload()
    finish_all(world.producers.expire(2_500, 1_500))
    assert len(world.producers) == 1_000 - 1
    assert world.upload(is_forced=True)

    assert set(world.restored()) == world.known()
