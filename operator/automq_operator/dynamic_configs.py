"""Pure: which settings of `spec.config` brokers take while they run, and when two texts of a value mean the same.

The broker's own list; a test compares both. What is not in it needs a restart.
"""

from collections.abc import Mapping
from typing import Final

DEFAULTS: Final[Mapping[str, str]] = {
    "automq.balancer.paused": "false",
    "compression.gzip.level": "-1",
    "compression.lz4.level": "9",
    "compression.type": "producer",
    "compression.zstd.level": "3",
    "log.cleaner.delete.retention.ms": "86400000",
    "log.cleaner.max.compaction.lag.ms": "9223372036854775807",
    "log.cleaner.min.cleanable.ratio": "0.5",
    "log.cleaner.min.compaction.lag.ms": "0",
    "log.cleanup.policy": "delete",
    "log.flush.interval.messages": "9223372036854775807",
    "log.flush.interval.ms": "9223372036854775807",
    "log.index.interval.bytes": "4096",
    "log.index.size.max.bytes": "10485760",
    "log.local.retention.bytes": "-2",
    "log.local.retention.ms": "-2",
    "log.message.timestamp.after.max.ms": "3600000",
    "log.message.timestamp.before.max.ms": "9223372036854775807",
    "log.message.timestamp.type": "CreateTime",
    "log.preallocate": "false",
    "log.retention.bytes": "-1",
    "log.retention.ms": "604800000",
    "log.roll.jitter.ms": "0",
    "log.roll.ms": "604800000",
    "log.segment.bytes": "1073741824",
    "log.segment.delete.delay.ms": "60000",
    "message.max.bytes": "1048588",
    "min.insync.replicas": "1",
    "unclean.leader.election.enable": "false",
}
"""Of each setting that a running broker takes: what holds where nobody sets it."""

COARSER: Final[Mapping[str, tuple[tuple[str, int], ...]]] = {
    "log.retention.ms": (("log.retention.minutes", 60_000), ("log.retention.hours", 3_600_000)),
    "log.roll.jitter.ms": (("log.roll.jitter.hours", 3_600_000),),
    "log.roll.ms": (("log.roll.hours", 3_600_000),),
}
"""Settings in a coarser unit, which brokers read when they start: they hold where that in milliseconds is not set."""


def dynamic(config: Mapping[str, str]) -> dict[str, str]:
    """What of `spec.config` is applied while brokers run."""
    return {name: value for name, value in config.items() if name in DEFAULTS}


def static(config: Mapping[str, str]) -> dict[str, str]:
    """What of it brokers read when they start, and only then."""
    return {name: value for name, value in config.items() if name not in DEFAULTS}


def unset_value(name: str, config: Mapping[str, str]) -> str:
    """The value that means the same as none. `config` is `spec.config`, which does not name it any more."""
    for coarser, scale in COARSER.get(name, ()):
        text = config.get(coarser, "").strip()
        if text.lstrip("+-").isdecimal():
            return str(int(text) * scale)
    return DEFAULTS[name]


def same(one: str | None, other: str | None) -> bool:
    """Whether two texts are the same value: brokers show a value in a form of their own."""
    return one == other or (one is not None and other is not None and _canonical(one) == _canonical(other))


def _canonical(text: str) -> object:
    trimmed = text.strip()
    for read in (int, float):
        try:
            return read(trimmed)
        except ValueError:
            pass
    parts = tuple(dict.fromkeys(part.strip() for part in trimmed.split(",")))
    return parts[0].lower() if parts[0].lower() in ("true", "false") else parts
