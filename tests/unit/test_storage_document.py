"""docs/storage.md: its tables name tests that exist, and the bounds that it gives are those of the program."""

import pathlib
import re

import pytest

from automq.controller import compaction_plan, damage
from automq.controller.model import ControllerSettings
from automq.metadata import erase, log, snapshot_format
from automq.partition import checkpointing, producer_state
from automq.s3stream import model, recovery
from automq.s3stream.cache import block_cache, cold_read
from automq.s3stream.objects import format as objects
from automq.s3stream.objects import index_cache
from automq.s3stream.settings import StorageSettings
from automq.s3stream.upload import parts
from automq.s3stream.wal import trimmer
from automq.server.compaction import main as compaction_main
from automq.server.config import sections
from automq.server.lifecycle import presence

ROOT = pathlib.Path(__file__).parents[2]
DOCUMENT = (ROOT / "docs/storage.md").read_text()
WORDS = " ".join(DOCUMENT.split())
KIB, MIB = 1 << 10, 1 << 20
CONTROLLER, STORAGE, PLAN = ControllerSettings(), StorageSettings(), compaction_plan.CompactionSettings()


def table_behind(heading: str, first_column: str) -> list[str]:
    """The rows of a table."""
    table = DOCUMENT.partition(heading)[2].partition("\n## ")[0]
    return [line for line in table.splitlines() if line.startswith("| ") and not line.startswith(f"| {first_column} |")]


@pytest.mark.parametrize(
    ("heading", "first_column", "least"),
    [("## Damage, kind by kind", "damage", 11), ("## What grows with what", "what", 8)],
)
def test_every_row_is_shown_by_a_test(heading: str, first_column: str, least: int) -> None:
    rows = table_behind(heading, first_column)
    named = [re.findall(r"`(test_\w+)`", row) for row in rows]
    tests = "\n".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    assert len(rows) >= least
    assert all(named)
    assert [name for names in named for name in names if f"def {name}(" not in tests] == []


@pytest.mark.parametrize(
    ("said", "actual", "expected"),
    [
        ("Every 1.4 seconds one small ranged read", presence.LOOK_INTERVAL_S, 1.4),
        ("more than 64 slots above a missing one", recovery.IN_FLIGHT_MAX, 64),
        ("at most a thousand keys in a request", trimmer.DELETES_AT_ONCE, 1_000),
        ("at the latest every minute", trimmer.LONGEST_PAUSE_S, 60),
        ("an entry of 64 bytes a block, in pages of 128", (objects.ENTRY_BYTES, objects.PAGE_ENTRIES), (64, 128)),
        ("What is at most 1 MiB is read by one ranged GET", block_cache.SHARE_BYTES_MAX, MIB),
        ("up to 256 objects, 32 the first time", (cold_read.SPANS_MAX, cold_read.FIRST_SPANS_MAX), (256, 32)),
        ("up to 32 requests under way", cold_read.SPANS_INFLIGHT, 32),
        ("nobody waits more than a second for the rest", cold_read.PATIENCE_S, 1),
        ("looked at again after 30 s at the earliest", index_cache.REEXAMINE_S, 30),
        ("There are at most four objects", parts.OBJECTS_MAX, 4),
        ("less than an eighth of the upload", parts.SMALL_SHARE, 8),
        ("after 1,000 slots", STORAGE.upload_slots, 1_000),
        (
            "(5 minutes; 10 s for logs that lie outside the bucket)",
            sections.UPLOAD_INTERVAL_MS,
            {"s3": 300_000, "block": 10_000, "file": 10_000},
        ),
        ("*Merging*: 16 objects", PLAN.sources, 16),
        ("several of up to 64 MiB", PLAN.object_bytes, 64 * MIB),
        ("whose ranges are shorter than 1 MiB on the average", PLAN.range_bytes, MIB),
        ("streams have left more than half", compaction_plan.WASTE_SHARE, 0.5),
        ("an output is one PUT of at most 128 MiB", compaction_main.SINGLE_PUT_BYTES_MAX, 128 * MIB),
        ("after the grace period of a minute", CONTROLLER.object_grace_ms, 60_000),
        ("Outputs of a job that died expire after an hour", CONTROLLER.object_expiry_ms, 3_600_000),
        ("it holds a 32nd of the state", checkpointing.PIECES_OF_A_WHOLE, 32),
        (
            "(256 KiB at least, 64 MiB at most)",
            (checkpointing.TAIL_BYTES_MIN, checkpointing.TAIL_BYTES_MAX),
            (256 * KIB, 64 * MIB),
        ),
        ("up to 512 bytes, goes whole with every upload", checkpointing.SMALL_BYTES, 512),
        ("at most 255 for a partition", model.CHECKPOINTS_KEPT_MAX, 255),
        ("A partition remembers 100,000 producers", producer_state.PRODUCERS_MAX, 100_000),
        ("at most 7 MiB each", log.APPEND_BYTES_MAX, 7 * MIB),
        (
            "250,000 ranges, 10,000 records, 16 MiB or 1,000 slots",
            (
                CONTROLLER.snapshot_ranges,
                CONTROLLER.snapshot_records,
                CONTROLLER.snapshot_bytes,
                CONTROLLER.snapshot_slots,
            ),
            (250_000, 10_000, 16 * MIB, 1_000),
        ),
        ("applied in blocks of 64 KiB", snapshot_format.BLOCK_BYTES, 64 * KIB),
        ("It watches the lease for eight seconds", erase.WATCH_S, 8),
        ("move by 2^34 offsets a slot", damage.SLOT_OFFSETS_MAX, 1 << 34),
    ],
)
def test_bound_is_that_of_the_program(said: str, actual: object, expected: object) -> None:
    assert said in WORDS
    assert actual == expected
