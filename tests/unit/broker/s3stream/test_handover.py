"""Handing streams over between two engines: everything acknowledged is with the new owner, and nothing twice."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from automq.ids import BrokerEpoch, NodeId, StreamId
from automq.metadata.move_records import MoveCause, MovingPartition
from automq.metadata.records import MovesCancelled, PartitionsMoving
from automq.s3stream.handover import Departure
from automq.s3stream.model import BrokerFenced, StreamSealed
from automq.s3stream.store.memory import MemoryStore
from automq.s3stream.stream import Stream
from tests.support.engine import NODE, SMALL, Engine, HeldStore, Ledger, a_piece, append, durable, read_all

pytestmark = pytest.mark.looptime

TARGET = (NodeId(NODE + 1), BrokerEpoch(2))
SLOW = replace(SMALL, upload_interval_ms=3_600_000, wal_interval_ms=10_000.0)


class Pair:
    """Two engines over one store and one ledger, and streams that move from the first to the second."""

    def __init__(self, streams: int = 1) -> None:
        self.ledger = Ledger()
        self.store = HeldStore(MemoryStore())
        self.source = Engine(self.ledger, self.store, epoch=1, settings=SLOW)
        self.target = Engine(self.ledger, self.store, epoch=TARGET[1], node=TARGET[0], settings=SLOW)
        for engine in (self.source, self.target):
            self.ledger.register(engine.me)
            engine.storage.start()
        ids = [self.ledger.create_stream(number + 1) for number in range(streams)]
        self.streams = [self.source.storage.open_stream(stream) for stream in ids]
        for stream in self.streams:
            stream.checkpoint_source = lambda forced: a_piece(b"state") if forced else None
        self.move = self.wish(*ids)
        self.sealed: list[StreamId] = []

    def wish(self, *streams: StreamId) -> int:
        partitions = tuple(MovingPartition(stream) for stream in streams)
        self.ledger.record(PartitionsMoving(*self.source.me, *TARGET, MoveCause.OPERATOR, partitions))
        return self.ledger.image.record_number

    def departures(self, *, is_open: bool = True) -> list[Departure]:
        return [
            Departure(stream=stream.stream_id, epoch=stream.epoch, move=self.move, opened=stream if is_open else None)
            for stream in self.streams
        ]

    async def hand_over(
        self, *, is_wanted: Callable[[Departure], bool] = lambda _: True, is_open: bool = True
    ) -> list[bool]:
        result = await self.source.storage.handover.release(
            self.departures(is_open=is_open),
            is_wanted=is_wanted,
            on_sealed=lambda departure: self.sealed.append(departure.stream),
        )
        return [released for _, released in result]

    def opened(self, number: int = 0) -> Stream:
        """By the new owner."""
        return self.target.storage.open_stream(self.streams[number].stream_id)

    def owners(self) -> set[NodeId]:
        return {state.owner for state in self.ledger.streams.values()}


async def test_everything_appended_is_with_the_new_owner_and_offsets_go_on() -> None:
    pair = Pair()
    (stream,) = pair.streams
    for _ in range(5):
        append(stream)
    assert await pair.hand_over() == [True]
    assert pair.owners() == {TARGET[0]}
    assert stream.confirmed_offset == 5

    moved = pair.opened()
    assert (moved.next_offset, moved.epoch) == (5, 1)
    assert await read_all(moved) == [0, 1, 2, 3, 4]
    await durable(pair.target.storage, append(moved))
    assert await read_all(moved) == [0, 1, 2, 3, 4, 5]


async def test_a_release_waits_for_no_interval_of_the_log() -> None:
    """Neither of the upload's nor of the WAL's, which are long here; and costs two appends to the metadata."""
    pair = Pair()
    append(pair.streams[0])
    before = pair.ledger.image.record_number
    async with asyncio.timeout(1):
        assert await pair.hand_over() == [True]
    # The upload before the seal, prepared and committed; ids ahead; and after the seal one record alone.
    assert pair.ledger.image.record_number - before == 4


async def test_what_is_appended_between_upload_and_seal_goes_along() -> None:
    pair = Pair()
    (stream,) = pair.streams
    append(stream)

    def is_wanted(_: Departure) -> bool:
        append(stream)
        return True

    assert await pair.hand_over(is_wanted=is_wanted) == [True]
    moved = pair.opened()
    assert await read_all(moved) == [0, 1]
    assert [piece.offset for piece in moved.checkpoints()] == [2]


async def test_an_idle_stream_is_released_with_its_state() -> None:
    pair = Pair()
    assert await pair.hand_over() == [True]
    moved = pair.opened()
    assert moved.next_offset == 0
    assert [await moved.read_checkpoint(piece) for piece in moved.checkpoints()] == [b"state"]


async def test_a_stream_that_is_not_open_is_released_as_it_is() -> None:
    pair = Pair()
    pair.streams[0].close()
    assert await pair.hand_over(is_open=False) == [True]
    assert pair.owners() == {TARGET[0]}


async def test_a_stream_that_was_opened_anew_meanwhile_is_not_sealed() -> None:
    pair = Pair()
    pair.source.storage.open_stream(pair.streams[0].stream_id)
    assert await pair.hand_over() == []
    assert await pair.hand_over(is_open=False) == []
    assert pair.owners() == {NODE}


async def test_nothing_is_appended_from_the_seal_to_the_answer_however_long_it_takes() -> None:
    pair = Pair()
    (stream,) = pair.streams
    append(stream)
    commits = pair.source.objects.commit
    gate = asyncio.Event()

    async def held(request):
        if request.releasing:
            await gate.wait()
        return await commits(request)

    pair.source.objects.commit = held
    handing = asyncio.ensure_future(pair.hand_over())
    await asyncio.sleep(3600)
    assert pair.sealed == [stream.stream_id]
    assert stream.is_sealed
    with pytest.raises(StreamSealed):
        append(stream)
    assert stream.slot_with_room(10) is None
    assert await read_all(stream) == [0]
    gate.set()
    assert await handing == [True]


async def test_a_lost_answer_is_asked_for_again_and_is_the_same() -> None:
    """The release has come to pass: whoever answers the second time says so."""
    pair = Pair(streams=2)
    for stream in pair.streams:
        append(stream)
    commits = pair.source.objects.commit
    asked: list[bool] = []

    async def lost(request):
        result = await commits(request)
        if request.releasing and not asked:
            asked.append(True)
            pair.source.objects.unavailable = 1
            return await commits(request)
        return result

    pair.source.objects.commit = lost
    assert await pair.hand_over() == [True, True]
    assert asked == [True]
    assert [pair.opened(number).next_offset for number in (0, 1)] == [1, 1]


async def test_a_void_move_leaves_the_stream_and_its_appends_go_on() -> None:
    pair = Pair()
    (stream,) = pair.streams
    append(stream)

    def cancel(departure: Departure) -> bool:
        pair.ledger.record(MovesCancelled((departure.stream,), "a test"))
        return True

    assert await pair.hand_over(is_wanted=cancel) == [False]
    assert stream.is_sealed
    stream.unseal()
    await durable(pair.source.storage, append(stream))
    await pair.source.storage.upload.flush()
    assert await read_all(stream) == [0, 1]
    assert pair.owners() == {NODE}


async def test_what_is_no_more_wanted_is_not_sealed() -> None:
    pair = Pair()
    append(pair.streams[0])
    assert await pair.hand_over(is_wanted=lambda _: False) == []
    append(pair.streams[0])


async def test_many_streams_go_with_one_commit() -> None:
    pair = Pair(streams=300)
    for stream in pair.streams:
        append(stream)
    assert await pair.hand_over() == [True] * 300
    releasing = [commit for commit in pair.ledger.commits if commit.releasing]
    assert [len(commit.releasing) for commit in releasing] == [300]
    assert pair.owners() == {TARGET[0]}


async def test_a_fenced_owner_releases_nothing_and_its_recoverer_loses_nothing() -> None:
    """It dies between seal and release: its log has everything, and its successor gives it on."""
    pair = Pair()
    (stream,) = pair.streams
    append(stream)
    appended: list[int] = []

    def is_wanted(_: Departure) -> bool:
        appended.append(append(stream))
        return True

    async def never(request):
        if request.releasing:
            pair.ledger.fence(pair.source.me, pair.target.me)
            raise BrokerFenced("fenced")
        return await commits(request)

    commits = pair.source.objects.commit
    pair.source.objects.commit = never
    with pytest.raises(BrokerFenced):
        await pair.hand_over(is_wanted=is_wanted)
    await pair.source.die()
    await pair.target.storage.recover(*pair.source.me, pair.ledger.trimmed[pair.source.me])
    pair.ledger.reopen(stream.stream_id, owner=TARGET[0])
    assert await read_all(pair.opened()) == [0, 1]


async def test_recovery_passes_over_what_was_released() -> None:
    """The old owner dies after the release: what its log has of the stream is neither gap nor refusal."""
    pair = Pair(streams=2)
    moving, staying = pair.streams
    for stream in pair.streams:
        append(stream)
    pair.streams = [moving]
    assert await pair.hand_over() == [True]
    moved = pair.opened()
    await durable(pair.target.storage, append(moved))
    await pair.target.storage.upload.flush()
    # A zombie, which does not know yet: its engine takes what the seal would have refused.
    moving.unseal()
    append(moving)
    append(staying)
    await durable(pair.source.storage, append(staying))
    await pair.source.die()

    third = Engine(pair.ledger, pair.store, epoch=3, node=NodeId(NODE + 2), settings=SLOW)
    recovered = await third.storage.recover(*pair.source.me, pair.ledger.fence(pair.source.me, third.me))
    assert recovered.unplaced == ()
    assert await read_all(moved) == [0, 1]
    pair.ledger.reopen(staying.stream_id, owner=third.me[0])
    third.storage.start()
    assert await read_all(third.storage.open_stream(staying.stream_id)) == [0, 1, 2]


async def test_late_uploads_of_a_zombie_are_refused_and_do_not_keep_its_log() -> None:
    pair = Pair()
    (stream,) = pair.streams
    append(stream)
    assert await pair.hand_over() == [True]
    stream.unseal()
    append(stream)
    await pair.source.storage.upload.flush()
    assert stream.is_sealed is False
    with pytest.raises(Exception, match="fenced"):
        append(stream)
    assert pair.ledger.trimmed[pair.source.me] == pair.source.storage.append.wal.next_sequence
    assert pair.ledger.streams[stream.stream_id].end == 1


async def test_there_and_back_again() -> None:
    pair = Pair()
    (stream,) = pair.streams
    append(stream)
    assert await pair.hand_over() == [True]
    moved = pair.opened()
    await durable(pair.target.storage, append(moved))
    partitions = (MovingPartition(stream.stream_id),)
    pair.ledger.record(PartitionsMoving(*TARGET, *pair.source.me, MoveCause.OPERATOR, partitions))
    back = Departure(stream=moved.stream_id, epoch=moved.epoch, move=pair.ledger.image.record_number, opened=moved)
    ((_, released),) = await pair.target.storage.handover.release(
        [back], is_wanted=lambda _: True, on_sealed=lambda _: None
    )
    assert released
    again = pair.source.storage.open_stream(stream.stream_id)
    assert again.epoch == 2
    await durable(pair.source.storage, append(again))
    assert await read_all(again) == [0, 1, 2]
    bases: Sequence[int] = await read_all(again)
    assert list(bases) == sorted(set(bases))
