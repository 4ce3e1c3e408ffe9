"""What shows only where a limit is reached, or at the end of a run: whole blocks, groups, deletions."""

from typing import Any

from tests.sim.rules import Rule, does_nothing, does_nothing_async


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
