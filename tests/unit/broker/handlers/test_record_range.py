"""Records of an answer are those that were announced, or none."""

import random
from collections.abc import Sequence
from typing import Any, cast

import pytest

from automq.handlers.reader_pins import ReaderPins
from automq.handlers.record_range import RecordRange, RecordsChanged
from automq.ids import Offset
from automq.protocol.records import RecordBatch
from automq.runtime.budget import ByteBudget
from automq.s3stream.arena import ReadResult
from automq.security.session import Session
from tests.support.batches import build_batch


def a_batch(value: bytes, *, count: int, base: int) -> memoryview:
    """As the log has it."""
    data = memoryview(bytearray(build_batch([value] * count, timestamp_ms=0)))
    RecordBatch(data).place(base_offset=base, leader_epoch=0)
    return data


class Log:
    """A partition: batches by base offset, of which those below `evicted_below` are in objects."""

    def __init__(self, sizes: Sequence[int], *, first: int = 0) -> None:
        self.name = "orders-0"
        self.batches: list[tuple[int, int, memoryview]] = []
        self.evicted_below = 0
        self.loads = 0
        base = first
        for size in sizes:
            count = random.randint(1, 3)
            data = a_batch(random.randbytes(size), count=count, base=base)
            self.batches.append((base, base + count, data))
            base += count
        self.end = base

    def choose(self, start: int, end: int, max_bytes: int) -> list[memoryview]:
        chosen: list[memoryview] = []
        for base, stop, data in self.batches:
            if stop > start:
                if base >= end or (chosen and sum(map(len, chosen)) + len(data) > max_bytes):
                    break
                chosen.append(data)
        return chosen

    def cached_buffers(
        self, start: int, end: int, max_bytes: int, *, buffers_max: int
    ) -> list[memoryview | bytes] | None:
        if start < self.evicted_below:
            return None
        left = self.choose(start, end, max_bytes)
        buffers: list[memoryview | bytes] = []
        while left and len(buffers) < buffers_max:
            count = random.choice((1, 1, 2, 7))
            buffers.append(left[0] if count == 1 else b"".join(left[:count]))
            left = left[count:]
        return buffers

    async def read(self, start: int, max_bytes: int) -> ReadResult:
        self.loads += 1
        chosen = self.choose(start, self.end, max_bytes)
        return ReadResult(chosen, start_offset=Offset(start), end_offset=Offset(0), size=sum(map(len, chosen)))


def range_of(log: Log, *, pins: ReaderPins | None = None, upto: int | None = None) -> RecordRange:
    batches = log.batches[:upto]
    return RecordRange(
        cast(Any, log),
        start=Offset(batches[0][0]),
        end=Offset(batches[-1][1]),
        size=sum(len(data) for _, _, data in batches),
        pins=ReaderPins(ByteBudget(10**9)) if pins is None else pins,
        session=Session(listener_name="CLIENT"),
    )


async def pull(records: RecordRange, take: int, bytes_max: int = 100_000) -> bytes:
    """One peek, of which the socket takes up to `take` bytes."""
    while (found := records.peek(bytes_max, 1000)) is None:
        await records.load()
    data = b"".join(found[0])
    assert len(data) == found[1]
    taken = data[:take]
    records.advance(len(taken))
    return taken


@pytest.mark.parametrize("seed", range(20))
async def test_bytes_are_whole_however_they_are_taken_and_wherever_they_are(seed: int) -> None:
    random.seed(seed)
    log = Log([random.choice((1, 50, 3000)) for _ in range(30)], first=7)
    records = range_of(log, upto=random.randint(1, 30))
    size = len(records)
    expected = b"".join(data for _, _, data in log.batches)[:size]
    got = b""
    while len(got) < size:
        log.evicted_below = random.choice((0, 20, 1000))
        got += await pull(records, random.choice((0, 1, 61, 5000)), random.choice((1, 1000, 100_000)))
        assert len(records) == size - len(got)

    assert got == expected
    records.close()
    assert records._pins.budget.used == 0


async def test_what_is_loaded_is_kept_while_there_is_room_and_loaded_again_else() -> None:
    log = Log([1000] * 5)
    log.evicted_below = 1000
    pins = ReaderPins(ByteBudget(1_000_000))
    records = range_of(log, pins=pins)
    size = len(records)
    got = await pull(records, 10)
    assert pins.budget.used == records.pinned_bytes == size
    got += await pull(records, 10)
    assert log.loads == 1
    records.unpin()
    got += await pull(records, size)

    assert log.loads == 2
    assert got == b"".join(data for _, _, data in log.batches)
    records.close()
    assert pins.budget.used == 0


@pytest.mark.parametrize("buffers_max", [1, 7, 50])
async def test_thousands_of_small_loaded_batches_are_no_more_buffers_than_asked_for(buffers_max: int) -> None:
    log = Log([1] * 300)
    log.evicted_below = 1000
    records = range_of(log)
    expected, got = b"".join(data for _, _, data in log.batches), b""
    while len(got) < len(expected):
        if (found := records.peek(100_000, buffers_max)) is None:
            await records.load()
            continue
        assert len(found[0]) <= buffers_max
        # All but a few bytes of what was peeked at: the rest of a batch is peeked at again.
        taken = (
            b"".join(found[0])[: max(found[1] - 3, 1)] if len(got) + found[1] < len(expected) else b"".join(found[0])
        )
        got += taken
        records.advance(len(taken))

    assert got == expected
    assert log.loads == 1


def spoil(log: Log, number: int, value: bytes) -> None:
    base, stop, _ = log.batches[number]
    log.batches[number] = base, stop, a_batch(value, count=stop - base, base=base)


@pytest.mark.parametrize("taken", [0, 100, 200], ids=["at its start", "within a batch", "between batches"])
async def test_records_that_are_gone_are_not_replaced_by_others(taken: int) -> None:
    log = Log([20] * 30)
    records = range_of(log)
    size = len(log.batches[0][2])
    got = await pull(records, {0: 0, 100: size + 10, 200: size}[taken])
    del log.batches[:2]

    with pytest.raises(RecordsChanged):
        await pull(records, 10_000)
    assert len(got) in (0, size, size + 10)


async def test_batch_of_the_same_size_with_other_bytes_does_not_complete_another() -> None:
    log = Log([20] * 3)
    records = range_of(log)
    await pull(records, 70)
    size = len(records)
    spoil(log, 0, b"z" * 20)
    assert sum(len(data) for _, _, data in log.batches) == size + 70

    with pytest.raises(RecordsChanged):
        await pull(records, 10_000)


@pytest.mark.parametrize("size", [10, 30], ids=["shorter", "longer"])
async def test_batch_of_another_size_is_not_what_was_announced(size: int) -> None:
    log = Log([20] * 3)
    records = range_of(log)
    await pull(records, 0)
    spoil(log, 2, b"z" * size)

    with pytest.raises(RecordsChanged):
        await pull(records, 10_000)


async def test_nothing_there_is_said_and_not_waited_for() -> None:
    log = Log([20] * 3)
    records = range_of(log)
    log.batches.clear()

    with pytest.raises(RecordsChanged):
        await pull(records, 1)
