"""Object compaction: what may take the place of what, and how each clause is taken out."""

from typing import Any

from tests.sim.rules import Rule, does_nothing

CHECK = "automq.controller.compaction_check:"


def _all_sources(original: Any) -> Any:
    return lambda image, released: sorted(released)


def _first_block_only(original: Any) -> Any:
    async def blocks(self: Any, piece: Any) -> Any:
        async for batches in original(self, piece):
            yield batches[:1]

    return blocks


COMPACTION_RULES: tuple[Rule, ...] = (
    Rule(
        "exactly as named: twice",
        "Compaction check: what is replaced is named exactly as it is; a second job for it is refused.",
        (CHECK + "check_as_named",),
        does_nothing,
        "compacted_twice",
    ),
    Rule(
        "exactly as named: neighbours",
        "Compaction check: what is replaced is named exactly as it is; nothing else lies between.",
        (CHECK + "check_as_named",),
        does_nothing,
        "compacted_after_a_neighbour",
    ),
    Rule(
        "outputs are prepared",
        "Compaction check: an output that expired was deleted; nothing may refer to it.",
        (CHECK + "check_outputs",),
        does_nothing,
        "compaction_comes_too_late",
    ),
    Rule(
        "sources that somebody needs stay",
        "Compaction check: a source goes with the last reference to it, a checkpoint's included.",
        (CHECK + "superfluous",),
        _all_sources,
        "compacted_while_read",
    ),
    Rule(
        "every batch is taken along",
        "Compaction: an output holds all that its spans held.",
        ("automq.s3stream.compaction.merge:Merge._blocks",),
        _first_block_only,
        "compacted_while_read",
    ),
)
