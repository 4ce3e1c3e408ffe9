"""How large everything is in a seed. In part of the seeds so small that the engine's limits are reached.

Three kinds of numbers: settings of the broker, fields of its `StorageSettings` (lower than a setting may be), and
constants of modules, which are replaced in the process that runs the seed: it runs nothing else.
"""

import importlib
import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

KIB = 1024
SLOT_BYTES = 64 * KIB

LIMITS: Mapping[str, tuple[str, ...]] = {
    "data block": (
        "automq.s3stream.objects.writer:DATA_BLOCK_BYTES",
        "automq.s3stream.upload.builder:DATA_BLOCK_BYTES",
    ),
    "object tail": ("automq.s3stream.objects.index_cache:TAIL_BYTES",),
    "page of an index": ("automq.s3stream.objects.format:PAGE_ENTRIES",),
    "small share": ("automq.s3stream.cache.block_cache:SHARE_BYTES_MAX",),
    "objects of a read": ("automq.s3stream.cache.cold_read:SPANS_MAX",),
    "one load": ("automq.s3stream.cache.block_cache:LOAD_BYTES_MAX",),
    "read ahead": ("automq.s3stream.cache.read_ahead:FIRST_BYTES",),
    "listed slots": ("automq.metadata.loader:WINDOW",),
    "slot of the metadata log": ("automq.metadata.log:GROUP_BYTES_MAX",),
}
"""Constants of modules that a seed may make small, by what they bound."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """What a seed drew."""

    record_bytes: int = 0
    """Padding of each record."""
    read_bytes: int = 250_000
    """What a reader asks for at a time, of each partition."""
    storage: Mapping[str, int] = field(default_factory=dict)
    limits: Mapping[str, int] = field(default_factory=dict)

    @property
    def batch_records_max(self) -> int:
        """Records of the largest batch that producers make when they are in a hurry: it must fit a slot."""
        return min(80, (SLOT_BYTES - 8 * KIB) // (self.record_bytes + 60))


def draw_sizes(dice: random.Random) -> Sizes:
    """Roomy, heavy (memory for a few seconds' records), or tight (every limit low)."""
    kind = dice.choice(("roomy", "roomy", "heavy", "tight", "tight"))
    if kind == "roomy":
        return Sizes()
    if kind == "heavy":
        # An outage fills the memory, and readers must go to the objects.
        storage = {
            "arena_bytes": dice.choice((1, 2)) * KIB * KIB,
            "upload_bytes": 256 * KIB,
            "block_cache_bytes": dice.choice((0, 300_000)),
            "cold_read_bytes": 200_000,
        }
        return Sizes(record_bytes=1500, storage=storage)
    storage = {
        "arena_bytes": dice.choice((4, 6, 8, 16)) * SLOT_BYTES,
        "upload_bytes": dice.choice((24, 64, 256)) * KIB,
        "block_cache_bytes": dice.choice((0, 8 * KIB, 100 * KIB)),
        "cold_read_bytes": dice.choice((4 * KIB, 64 * KIB)),
        "index_cache_bytes": dice.choice((1, 1500, 8000)),
        "recovery_bytes": dice.choice((1, 16 * KIB, 128 * KIB)),
        "log_cache_index_bytes": dice.choice((3, 20, 1000)) * KIB,
        "checkpoint_bytes": dice.choice((1, 20, 1000)) * KIB,
        "upload_memory_bytes": dice.choice((1, 64, 256)) * KIB,
        "wal_eager_bytes": dice.choice((1, 4 * KIB, KIB * KIB)),
    }
    record_bytes = dice.choice((0, 200, 1500))
    limits = {
        # One read is one block: smaller ones would make reading everything back a matter of minutes.
        "data block": max(dice.choice((KIB, 4 * KIB, 16 * KIB)), 40 * record_bytes),
        "object tail": dice.choice((100, KIB, 64 * KIB)),
        "page of an index": dice.choice((1, 3, 128)),
        "small share": dice.choice((1, 4 * KIB, KIB * KIB)),
        "objects of a read": dice.choice((1, 3, 256)),
        "one load": dice.choice((1, 4 * KIB, 4 * KIB * KIB)),
        "read ahead": dice.choice((KIB, 16 * KIB)),
        "listed slots": dice.choice((8, 32, 256)),
        "slot of the metadata log": dice.choice((1, 500, KIB * KIB)),
    }
    # One fetch is one batch at the least, so a reader of many gets on.
    read_bytes = dice.choice((10_000, 250_000))
    return Sizes(record_bytes=record_bytes, read_bytes=read_bytes, storage=storage, limits=limits)


def apply_limits(limits: Mapping[str, int]) -> None:
    """Replace the constants in this process, which is to run one seed. A constant that is gone is an error."""
    for name, value in limits.items():
        for place in LIMITS[name]:
            module_name, _, constant = place.partition(":")
            module: Any = importlib.import_module(module_name)
            if not hasattr(module, constant):
                raise AttributeError(f"{place} is gone: correct tests/sim/sizes.py")
            setattr(module, constant, value)
