"""What a run has reached: counters around functions of the product, which do nothing else.

A batch of seeds that never reaches a limit tests nothing of what happens there, and nobody notices; so each counter
be above zero in a batch (`missing`).
"""

import collections
import importlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

Counts = collections.Counter[str]

_COUNTS: Counts = collections.Counter()


def _refused(take: Any) -> Any:
    def counted(self: Any) -> Any:
        arena = take(self)
        _COUNTS["appends refused for want of an arena"] += arena is None
        return arena

    return counted


def _no_room(has_room: Any) -> Any:
    def counted(self: Any, size: int) -> Any:
        fits = has_room(self, size)
        _COUNTS["requests that had to wait for room"] += not fits
        return fits

    return counted


def _evicted(evict: Any) -> Any:
    def counted(self: Any) -> Any:
        dropped = evict(self)
        _COUNTS["blocks evicted from the log cache"] += bool(dropped)
        return dropped

    return counted


def _block_evicted(insert: Any) -> Any:
    def counted(self: Any, key: Any, block: Any) -> None:
        before = len(self._blocks) + 1
        insert(self, key, block)
        _COUNTS["blocks evicted from the block cache"] += len(self._blocks) < before

    return counted


def _sealed_by_size(slot_closed: Any) -> Any:
    def counted(self: Any) -> None:
        slot_closed(self)
        is_full = self._append.cache.open.size >= self._settings.upload_bytes
        _COUNTS["blocks sealed because of their size"] += is_full

    return counted


def _sealed_by_pressure(relieve: Any) -> Any:
    def counted(self: Any) -> None:
        before = self._seal_handle
        relieve(self)
        _COUNTS["blocks sealed because memory runs out"] += before is None and self._seal_handle is not None

    return counted


def _several_blocks(add_block: Any) -> Any:
    def counted(self: Any, stream: Any, batches: Any) -> Any:
        streams = vars(self).setdefault("counted_streams", collections.Counter())
        streams[stream] += 1
        _COUNTS["objects with several blocks of a stream"] += streams[stream] == 2
        return add_block(self, stream, batches)

    return counted


def _groups(run: Any) -> Any:
    async def counted(self: Any, *args: Any) -> Any:
        groups = 0
        read_group = self._log.read_group

        async def reading(*args: Any) -> Any:
            nonlocal groups
            group = await read_group(*args)
            groups += bool(group.slots)
            return group

        self._log.read_group = reading
        try:
            return await run(self, *args)
        finally:
            _COUNTS["recoveries"] += 1
            _COUNTS["recoveries with several groups"] += groups > 1

    return counted


def _refused_ranges(judge_range: Any) -> Any:
    def counted(*args: Any, **options: Any) -> Any:
        judged = judge_range(*args, **options)
        _COUNTS["ranges refused by the commit check"] += judged.verdict.name == "REFUSED"
        return judged

    return counted


def _overtaken(init: Any) -> Any:
    def counted(self: Any, *args: Any, **options: Any) -> None:
        _COUNTS["loaders overtaken"] += 1
        init(self, *args, **options)

    return counted


def _compacted(range_of: Any) -> Any:
    def counted(item: Any, left: Any) -> Any:
        _COUNTS["ranges replaced by compaction"] += 1
        return range_of(item, left)

    return counted


def _compacted_away(superfluous: Any) -> Any:
    def counted(image: Any, released: Any) -> Any:
        gone = superfluous(image, released)
        _COUNTS["objects compacted away"] += len(gone)
        return gone

    return counted


def _shares(load_share: Any) -> Any:
    async def counted(self: Any, *args: Any) -> Any:
        _COUNTS["shares read without an index"] += 1
        return await load_share(self, *args)

    return counted


def _pages(load_page: Any) -> Any:
    async def counted(self: Any, *args: Any) -> Any:
        _COUNTS["pages of indexes read"] += 1
        return await load_page(self, *args)

    return counted


def _borders(run: Any) -> Any:
    async def counted(self: Any) -> Any:
        answer = await run(self)
        _COUNTS["reads over the border of an object"] += self._taken - len(self._upcoming) > 1
        return answer

    return counted


PROBES: Mapping[str, Callable[[Any], Any]] = {
    "automq.s3stream.arena:ArenaPool.take": _refused,
    "automq.s3stream.append_path:AppendPath.has_room": _no_room,
    "automq.s3stream.cache.log_cache:LogCache.evict": _evicted,
    "automq.s3stream.cache.block_cache:BlockCache._insert": _block_evicted,
    "automq.s3stream.upload_path:UploadPath.slot_closed": _sealed_by_size,
    "automq.s3stream.upload_path:UploadPath.relieve": _sealed_by_pressure,
    "automq.s3stream.objects.writer:ObjectWriter.add_block": _several_blocks,
    "automq.s3stream.upload.recoverer:Recoverer.run": _groups,
    "automq.controller.commit_check:judge_range": _refused_ranges,
    "automq.controller.compaction_check:range_of": _compacted,
    "automq.controller.compaction_check:superfluous": _compacted_away,
    "automq.metadata.loader:Overtaken.__init__": _overtaken,
    "automq.s3stream.objects.reader:ObjectReader.load_share": _shares,
    "automq.s3stream.objects.index_cache:IndexCache._load_page": _pages,
    "automq.s3stream.cache.cold_read:ColdRead.run": _borders,
}
"""Where to look, and how."""

IN_EVERY_BATCH = (
    "requests that had to wait for room",
    "blocks evicted from the log cache",
    "blocks evicted from the block cache",
    "blocks sealed because of their size",
    "blocks sealed because memory runs out",
    "objects with several blocks of a stream",
    "recoveries with several groups",
    "ranges replaced by compaction",
    "objects compacted away",
    "shares read without an index",
    "pages of indexes read",
    "reads over the border of an object",
)
"""What some dozens of seeds must have reached."""
IN_LARGE_BATCHES = ("loaders overtaken",)
"""What some hundreds of seeds must have reached besides."""
IN_SCHEDULES = ("ranges refused by the commit check", "loaders overtaken")
"""What the directed schedules must have reached."""
BATCH_SEEDS = 25
LARGE_BATCH_SEEDS = 200


def watch(probes: Mapping[str, Callable[[Any], Any]] = PROBES) -> None:
    """Count from now on, in this process."""
    for place, probe in probes.items():
        module_name, _, path = place.partition(":")
        owner: Any = importlib.import_module(module_name)
        *parents, name = path.split(".")
        for parent in parents:
            owner = getattr(owner, parent)
        if name not in vars(owner):
            raise AttributeError(f"{place} is gone: correct tests/sim/coverage.py")
        setattr(owner, name, probe(getattr(owner, name)))


def count(what: str, number: int = 1) -> None:
    """One more of that."""
    _COUNTS[what] += number


def counts() -> dict[str, int]:
    """What this process has reached since `watch`."""
    return dict(_COUNTS)


def missing(batch: Iterable[Mapping[str, int]], wanted: Iterable[str]) -> list[str]:
    """What of `wanted` no run of a batch has reached."""
    total: Counts = collections.Counter()
    for counted in batch:
        total.update(counted)
    return [what for what in wanted if not total[what]]


def wanted_of(
    seeds: int, wanted: tuple[str, ...] = IN_EVERY_BATCH, wanted_of_many: tuple[str, ...] = IN_LARGE_BATCHES
) -> tuple[str, ...]:
    """What a batch of so many seeds must have reached."""
    if seeds < BATCH_SEEDS:
        return ()
    return wanted + (wanted_of_many if seeds >= LARGE_BATCH_SEEDS else ())
