"""Checkpoints are captured in turns after the seal, each at exactly the end of its stream's uploaded run."""

import asyncio

import pytest

from automq.ids import StreamId
from automq.runtime.turns import TURN_US
from automq.s3stream.model import CheckpointPiece
from automq.s3stream.settings import StorageSettings
from automq.s3stream.store.memory import MemoryStore
from automq.s3stream.stream import Stream
from automq.s3stream.upload.capture import CAPTURE_US
from tests.support.counted import calls
from tests.support.engine import Engine, Ledger, a_piece, append, durable

pytestmark = pytest.mark.looptime

STREAMS = 4 * (TURN_US // CAPTURE_US)


async def an_engine(count: int = STREAMS) -> tuple[Engine, list[Stream], list[int]]:
    """Streams with one batch of two records each, and in which order their states are captured."""
    engine = Engine(Ledger(), MemoryStore(), settings=StorageSettings(upload_interval_ms=10**6))
    engine.storage.start()
    captured: list[int] = []
    streams = [engine.storage.open_stream(engine.ledger.create_stream(number + 1)) for number in range(count)]
    for stream in streams:

        def capture(_is_forced: bool, stream: Stream = stream) -> CheckpointPiece:
            captured.append(stream.stream_id)
            return a_piece(f"state at {stream.next_offset}".encode())

        stream.checkpoint_source = capture
        append(stream, count=2)
    await durable(engine.storage, streams[-1].last_position)
    return engine, streams, captured


async def checkpoint(engine: Engine, stream_id: StreamId) -> tuple[int, bytes]:
    stream = engine.storage.open_stream(stream_id)
    piece = stream.checkpoints()[-1]
    return piece.offset, await stream.read_checkpoint(piece)


async def test_all_are_captured_before_the_upload_and_not_in_one_turn() -> None:
    engine, streams, captured = await an_engine()
    uploading = asyncio.ensure_future(engine.storage.upload.flush())
    await asyncio.sleep(0)
    assert 0 < len(captured) < STREAMS
    await uploading
    assert captured == [stream.stream_id for stream in streams]
    for stream in streams:
        assert await checkpoint(engine, stream.stream_id) == (2, b"state at 2")


async def test_an_append_after_the_seal_is_in_no_checkpoint_of_it() -> None:
    engine, streams, captured = await an_engine()
    last = streams[-1]
    uploading = asyncio.ensure_future(engine.storage.upload.flush())
    await asyncio.sleep(0)
    assert last.stream_id not in captured
    append(last, count=2)
    assert captured[-1] == last.stream_id
    append(last, count=2)
    await uploading

    assert captured.count(last.stream_id) == 1
    assert await checkpoint(engine, last.stream_id) == (2, b"state at 2")


async def test_a_stream_that_is_closed_after_the_seal_leaves_its_checkpoint() -> None:
    engine, streams, captured = await an_engine()
    uploading = asyncio.ensure_future(engine.storage.upload.flush())
    await asyncio.sleep(0)
    streams[-1].close()
    assert captured[-1] == streams[-1].stream_id
    await uploading
    assert await checkpoint(engine, streams[-1].stream_id) == (2, b"state at 2")


async def test_a_second_seal_meanwhile_has_the_newer_state() -> None:
    engine, streams, _ = await an_engine()
    first = asyncio.ensure_future(engine.storage.upload.flush())
    await asyncio.sleep(0)
    append(streams[-1], count=2)
    second = asyncio.ensure_future(engine.storage.upload.flush())
    await asyncio.gather(first, second)
    assert await checkpoint(engine, streams[-1].stream_id) == (4, b"state at 4")
    assert await checkpoint(engine, streams[-2].stream_id) == (2, b"state at 2")


async def test_a_renewal_is_captured_before_an_append_that_comes_meanwhile() -> None:
    """Of a stream without batches in the block: its piece describes where the stream ended then."""
    engine, streams, captured = await an_engine()
    await engine.storage.upload.flush()
    captured.clear()
    for stream in streams[:-1]:
        append(stream, count=2)
    last = streams[-1]
    engine.storage.append.checkpoints.renew(last.stream_id)
    uploading = asyncio.ensure_future(engine.storage.upload.flush())
    await asyncio.sleep(0)
    assert last.stream_id not in captured
    append(last, count=2)
    await uploading
    assert await checkpoint(engine, last.stream_id) == (2, b"state at 2")
    assert await checkpoint(engine, streams[0].stream_id) == (4, b"state at 4")


async def test_b6_a_seal_costs_the_same_however_many_streams_are_in_its_block() -> None:
    """What is captured in its own turn is all there is to do: nobody goes through the runs."""
    costs: list[int] = []
    for count in (STREAMS, 3 * STREAMS):
        engine, _streams, captured = await an_engine(count)
        costs.append(calls(engine.storage.upload._seal))
        assert len(captured) == TURN_US // CAPTURE_US
        await engine.storage.upload.flush()
        assert len(captured) == count

    assert costs[0] == costs[1]
