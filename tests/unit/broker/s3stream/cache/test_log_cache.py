"""The log cache against a dumb model: whatever is in memory reads back exactly, what is evicted is said to be gone."""

from dataclasses import dataclass, field

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from automq.ids import Offset, StreamEpoch, StreamId
from automq.runtime.budget import ByteBudget
from automq.runtime.telemetry import Metrics
from automq.s3stream.arena import PAGE_BYTES, ArenaPool, ReadResult
from automq.s3stream.cache import log_cache
from automq.s3stream.cache.log_cache import (
    BATCH_BYTES,
    CHECKPOINT_BYTES,
    RUN_BYTES,
    SIZE_BITS,
    BlockState,
    CacheBlock,
    LogCache,
    StreamTail,
)
from tests.support.engine import a_batch, a_piece
from tests.support.leftovers import alive, grown, no_search_for_cycles

STREAMS = (1, 2, 3)


@dataclass
class Model:
    """One stream: every batch ever appended, and from which on they must be in memory."""

    tail: StreamTail
    batches: list[tuple[int, int, bytes]] = field(default_factory=list)
    end: int = 0


class LogCacheMachine(RuleBasedStateMachine):
    """Appends, seals, commits, evictions and reads in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = ArenaPool(arenas_max=6, arena_bytes=PAGE_BYTES, account=ByteBudget(0))
        self.index, self.checkpoints = ByteBudget(4 * RUN_BYTES), ByteBudget(1 << 20)
        self.cache = LogCache(index=self.index, checkpoints=self.checkpoints)
        self.pool.evict = self.cache.evict
        self.models = {n: Model(StreamTail(StreamId(n), StreamEpoch(0))) for n in STREAMS}
        self.sealed: list[CacheBlock] = []
        self.arena = self.pool.take()
        self.position = 0
        self.pinned: list[tuple[ReadResult, list[bytes]]] = []

    @rule(stream=st.sampled_from(STREAMS), count=st.integers(1, 5), size=st.integers(1, 900))
    def append(self, stream: int, count: int, size: int) -> None:
        if self.arena is None or self.position + size > self.arena.size:
            arena = self.pool.take()
            if arena is None:
                return
            if self.arena is not None:
                self.arena.release()
            self.arena, self.position = arena, 0
        model = self.models[stream]
        payload = a_batch(stream, model.end, size=size)
        place = self.cache.open.place_of(self.arena)
        self.arena.view[self.position : self.position + size] = payload
        run = model.tail.current
        if run is None or run.block is not self.cache.open:
            run = self.cache.begin_run(model.tail, Offset(model.end))
        run.bases.append(model.end)
        run.places.append(place + (self.position << SIZE_BITS) + size)
        run.size += size
        self.position += size
        model.batches.append((model.end, count, bytes(payload)))
        model.end += count
        run.end = Offset(model.end)

    @precondition(lambda self: self.cache.open.runs)
    @rule(checkpoint=st.binary(max_size=50))
    def seal(self, checkpoint: bytes) -> None:
        self.cache.count_batches(sum(len(run.bases) for run in self.cache.open.runs))
        self.cache.keep_checkpoint(self.cache.open.runs[0], a_piece(checkpoint))
        self.sealed.append(self.cache.seal())

    @precondition(lambda self: self.sealed)
    @rule()
    def commit(self) -> None:
        self.cache.committed(self.sealed.pop(0), 0.0)

    @rule()
    def evict(self) -> None:
        self.cache.evict()

    @rule()
    def shrink(self) -> None:
        self.cache.shrink(committed_before=0.0)
        blocks = list(self.cache._blocks)
        assert not self.index.is_full or not blocks or blocks[0].state is BlockState.SEALED

    @rule(stream=st.sampled_from(STREAMS), data=st.data(), max_bytes=st.integers(1, 3000), pin=st.booleans())
    def read(self, stream: int, data: st.DataObject, max_bytes: int, pin: bool) -> None:
        model = self.models[stream]
        if not model.end:
            return
        start = data.draw(st.integers(0, model.end - 1))
        end = data.draw(st.integers(start + 1, model.end))
        result = model.tail.read(Offset(start), Offset(end), max_bytes)
        if model.tail.start is None or start < model.tail.start:
            assert result is None
            return
        assert result is not None
        first = next(n for n, (base, count, _) in enumerate(model.batches) if base + count > start)
        expected: list[bytes] = []
        stop = size = 0
        for base, count, payload in model.batches[first:]:
            if base >= end or (expected and size + len(payload) > max_bytes):
                break
            expected.append(payload)
            size += len(payload)
            stop = base + count
        assert [bytes(view) for view in result.batches] == expected
        assert (result.start_offset, result.end_offset, result.size) == (model.batches[first][0], stop, size)
        self.check_gathered(model, start, end, max_bytes, expected)
        counted = model.tail.bytes_between(Offset(start), Offset(end), bytes_max=max_bytes)
        whole = sum(len(payload) for base, _, payload in model.batches[first:] if base < end)
        assert counted is not None
        assert counted == whole or max_bytes <= counted < whole
        if pin and len(self.pinned) < 3:
            self.pinned.append((result, expected))
        else:
            result.release()

    def check_gathered(self, model: Model, start: int, end: int, max_bytes: int, expected: list[bytes]) -> None:
        """The same batches, or the first of them, in fewer buffers: those above SMALL_BYTES_MAX by themselves."""
        for buffers_max in (1, 2, 1000):
            buffers = model.tail.gathered(Offset(start), Offset(end), max_bytes, buffers_max=buffers_max)
            assert buffers
            assert len(buffers) <= buffers_max
            left = list(expected)
            for buffer in buffers:
                data = bytes(buffer)
                assert len(data) <= log_cache.BUFFER_BYTES or data == left[0]
                while data:
                    assert data.startswith(left[0])
                    data = data[len(left.pop(0)) :]
            assert buffers_max < 1000 or not left or sum(map(len, buffers)) >= log_cache.GATHERED_BYTES_MAX

    @precondition(lambda self: self.pinned)
    @rule()
    def unpin(self) -> None:
        result, expected = self.pinned.pop(0)
        assert [bytes(view) for view in result.batches] == expected
        result.release()

    @invariant()
    def pinned_reads_never_change(self) -> None:
        for result, expected in self.pinned:
            assert [bytes(view) for view in result.batches] == expected

    @invariant()
    def accounts_are_what_the_blocks_hold(self) -> None:
        blocks = [*self.cache._blocks, self.cache.open]
        sealed = [block for block in blocks if block is not self.cache.open]
        batches = sum(len(run.bases) for block in sealed for run in block.runs)
        assert self.index.used == RUN_BYTES * sum(len(block.runs) for block in blocks) + BATCH_BYTES * batches
        uncommitted = [block for block in blocks if block.state is not BlockState.COMMITTED]
        assert self.cache.uncommitted_index_bytes == sum(block.index_bytes for block in uncommitted)
        held = [piece.size for block in blocks for piece in block.checkpoints.values()]
        assert self.checkpoints.used == sum(held) + CHECKPOINT_BYTES * len(held)

    @invariant()
    def uncommitted_batches_are_in_memory(self) -> None:
        for block in [*self.sealed, self.cache.open]:
            for run in block.runs:
                assert run.tail.start is not None
                assert run.tail.start <= run.start


@pytest.fixture(autouse=True)
def small_buffers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches of the machine are some of either kind."""
    monkeypatch.setattr(log_cache, "SMALL_BYTES_MAX", 500)
    monkeypatch.setattr(log_cache, "BUFFER_BYTES", 1200)
    monkeypatch.setattr(log_cache, "GATHERED_BYTES_MAX", 1500)


LogCacheMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=60, deadline=None)
TestLogCache = LogCacheMachine.TestCase


def test_blocks_are_evicted_oldest_first_and_only_when_committed() -> None:
    pool = ArenaPool(arenas_max=3, arena_bytes=PAGE_BYTES, account=ByteBudget(0))
    cache = LogCache(index=ByteBudget(1 << 20), checkpoints=ByteBudget(1 << 20))
    tail = StreamTail(StreamId(1), StreamEpoch(0))
    arena = pool.take()
    assert arena is not None
    blocks = []
    for number in range(2):
        place = cache.open.place_of(arena)
        run = cache.begin_run(tail, Offset(number))
        run.bases.append(number)
        run.places.append(place + 10)
        run.end = Offset(number + 1)
        blocks.append(cache.seal())
    assert cache.uncommitted == 2
    cache.committed(blocks[0], 0.0)

    assert cache.evict()
    assert not cache.evict()
    assert [block.state for block in blocks] == [BlockState.EVICTED, BlockState.SEALED]
    assert tail.start == 1


def test_evicted_block_and_its_index_are_gone_at_once() -> None:
    """Their account is released then: nothing may wait for a search for cycles."""
    pool = ArenaPool(arenas_max=3, arena_bytes=PAGE_BYTES, account=ByteBudget(0))
    cache = LogCache(index=ByteBudget(1 << 20), checkpoints=ByteBudget(1 << 20))
    tails = [StreamTail(StreamId(number), StreamEpoch(0)) for number in range(50)]
    arena = pool.take()
    assert arena is not None
    with no_search_for_cycles():
        before = alive()
        for number in range(20):
            cache.open.place_of(arena)
            for tail in tails:
                cache.begin_run(tail, Offset(number)).end = Offset(number + 1)
            cache.committed(cache.seal(), 0.0)
            assert cache.evict()
        after = alive()

    assert not grown(before, after, by=1)


def test_segments_skip_what_is_trimmed() -> None:
    cache = LogCache(index=ByteBudget(1 << 20), checkpoints=ByteBudget(1 << 20))
    tail = StreamTail(StreamId(1), StreamEpoch(0))
    pool = ArenaPool(arenas_max=3, arena_bytes=PAGE_BYTES, account=ByteBudget(0))
    arena = pool.take()
    assert arena is not None
    for number in range(3):
        place = cache.open.place_of(arena)
        run = cache.begin_run(tail, Offset(number * 10))
        run.bases.append(number * 10)
        run.places.append(place + 10)
        run.size, run.max_timestamp_ms, run.end = 10, number, Offset(number * 10 + 10)
        cache.seal()

    assert [(s.start, s.end, s.size, s.max_timestamp_ms) for s in tail.segments(Offset(10))] == [
        (10, 20, 10, 1),
        (20, 30, 10, 2),
    ]


def test_old_blocks_go_and_young_ones_stay() -> None:
    index = ByteBudget(1 << 20)
    cache = LogCache(index=index, checkpoints=ByteBudget(1 << 20))
    pool = ArenaPool(arenas_max=3, arena_bytes=PAGE_BYTES, account=ByteBudget(0))
    tail = StreamTail(StreamId(1), StreamEpoch(0))
    arena = pool.take()
    assert arena is not None
    for number in range(3):
        cache.open.place_of(arena)
        cache.begin_run(tail, Offset(number)).end = Offset(number + 1)
        cache.committed(cache.seal(), float(number * 100))

    cache.shrink(committed_before=150.0)

    assert tail.start == 2
    assert index.used == RUN_BYTES


def test_what_is_not_uploaded_is_measured_with_its_age() -> None:
    metrics, cache = Metrics(), LogCache(index=ByteBudget(1 << 20), checkpoints=ByteBudget(1 << 20))
    now = 100.0
    cache.watch(metrics, lambda: now)

    def measured() -> tuple[float | None, float | None]:
        value = metrics.registry.get_sample_value
        return value("automq_not_uploaded_bytes"), value("automq_not_uploaded_age_seconds")

    assert measured() == (0, 0)
    cache.begin_run(StreamTail(StreamId(1), StreamEpoch(1)), Offset(0))
    cache.open.add_slot(1000, 100.0)
    now = 103.0
    cache.open.add_slot(500, 103.0)
    assert measured() == (1500, 3)
    sealed = cache.seal()
    now = 110.0
    assert measured() == (1500, 10)
    sealed.state = BlockState.COMMITTED
    assert measured() == (0, 0)
