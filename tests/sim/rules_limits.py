"""What shows only where a limit is reached, or at the end of a run: whole blocks, groups, deletions."""

from typing import Any

from tests.sim.rules import Rule, does_nothing, does_nothing_async, returns


def _first_group_only(original: Any) -> Any:
    def groups(batches: Any) -> Any:
        for group in original(batches):
            yield group
            return

    return groups


def _first_records_only(original: Any) -> Any:
    async def upload(self: Any, group: Any) -> None:
        if vars(self).get("has_uploaded"):
            group.slots.clear()
        vars(self)["has_uploaded"] = True
        await original(self, group)

    return upload


def _keeps_what_it_announced(original: Any) -> Any:
    if original.__name__ == "_check":
        return lambda self, batches: sum(map(len, batches)) - self._skip

    def made(self: Any, partition: Any, **options: Any) -> None:
        original(self, partition, **options)
        if not self._loaded:
            self._loaded = partition.stream.tail.views(options["start"], options["end"], options["size"]) or ()

    return made


def _arenas_without_end(original: Any) -> Any:
    def take(self: Any) -> Any:
        self.arenas_max = 1 << 30
        return original(self)

    return take


def _keeps_every_block(original: Any) -> Any:
    def insert(self: Any, *args: Any) -> None:
        self._account.limit = 1 << 60
        original(self, *args)

    return insert


LIMIT_RULES: tuple[Rule, ...] = (
    Rule(
        "a block goes up whole",
        "A block of the log cache is uploaded whole, however many data blocks a stream needs.",
        ("automq.s3stream.upload.builder:_groups",),
        _first_group_only,
        "several_blocks_of_a_stream",
    ),
    Rule(
        "every group is recovered",
        "A log is recovered whole, however many groups of slots that takes.",
        ("automq.s3stream.upload.recoverer:Recoverer._upload",),
        _first_records_only,
        "recovered_in_groups",
    ),
    Rule(
        "answers are pulled",
        "An answer's records are looked at when the socket takes them, and never again without asking where they are.",
        ("automq.handlers.record_range:RecordRange.__init__", "automq.handlers.record_range:RecordRange._check"),
        _keeps_what_it_announced,
        "reader_that_stalls",
    ),
    Rule(
        "no room, not taken in",
        "Memory is bounded: a Produce that does not fit is not read from its socket; the rest is for the broker's own.",
        ("automq.server.network.listener:KafkaServer.has_room",),
        returns(True),
        "store_takes_nothing",
    ),
    Rule(
        "log cache is bounded",
        "Memory is bounded: the log cache gives way to what is written, however much was read from it.",
        ("automq.s3stream.arena:ArenaPool.take",),
        _arenas_without_end,
        "memory_runs_out",
    ),
    Rule(
        "block cache is bounded",
        "Memory is bounded: the blocks least recently used give way.",
        ("automq.s3stream.cache.block_cache:BlockCache._insert",),
        _keeps_every_block,
        "memory_runs_out",
    ),
    Rule(
        "slots go away",
        "What lies in the bucket is explained: slots below T are deleted.",
        ("automq.s3stream.wal.trimmer:SlotTrimmer.trim",),
        does_nothing,
        "trimmed_data_go_away",
    ),
    Rule(
        "objects go away",
        "What lies in the bucket is explained: objects that nothing refers to are destroyed, and deleted.",
        ("automq.controller.background:Background._sweep",),
        does_nothing_async,
        "trimmed_data_go_away",
    ),
)
