"""Damage that partitions meet: counted, logged once a key and partition, known for as long as the process lives.

A reader that stands at a damaged offset comes back and back: what is told of it must not grow with that.
"""

import logging
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from automq.ids import TopicPartition
from automq.runtime.clock import Clock
from automq.runtime.telemetry import Metrics
from automq.s3stream.model import CorruptData, DataMissing, StoreDamaged

log = logging.getLogger(__name__)

# An object may hold thousands of partitions: so many lines are written of one key, then no more for an hour.
LINES_MAX: Final = 10
REPEAT_S: Final = 3600.0
# Keys that are remembered; beyond them the one met longest ago is forgotten.
KEYS_MAX: Final = 10_000

REMEDY: Final = "look with `automq fsck`, give up what cannot be restored with `automq repair`"


@dataclass(frozen=True, slots=True, kw_only=True)
class Quarantine:
    """Why a partition takes no append."""

    key: str
    reason: str
    is_end_unknown: bool = False
    """Acknowledged records may lie behind the end, in what is damaged."""


_NAMED: Final = ("checkpoint", "index", "footer", "block")
KINDS: Final = ("missing", *_NAMED, "object")
"""What `kind_of` may say."""


def kind_of(error: StoreDamaged) -> str:
    """What is damaged, of few words: a metric's label."""
    if isinstance(error, DataMissing):
        return "missing"
    what = error.what if isinstance(error, CorruptData) else ""
    for word in (*_NAMED, "batch"):
        if word in what:
            return "block" if word == "batch" else word
    return "object"


class DamageLog:
    """One of a broker."""

    def __init__(self, *, clock: Clock, metrics: Metrics) -> None:
        self._clock = clock
        self._lines: OrderedDict[str, dict[TopicPartition, float]] = OrderedDict()
        """By key: when each partition's line was written."""
        self._reads = metrics.counter(
            "automq_damaged_reads", "Reads that met something damaged or missing in the store", ["what"]
        )
        for what in KINDS:
            self._reads.labels(what)
        keys = metrics.gauge("automq_damaged_keys", "Keys of the store that are known to be damaged or missing")
        keys.set_function(lambda: len(self._lines))

    def report(self, partition: TopicPartition, offset: int, error: StoreDamaged) -> None:
        """A read of `partition` met `error` at `offset`."""
        self._reads.labels(kind_of(error)).inc()
        lines = self._lines.setdefault(error.key, {})
        self._lines.move_to_end(error.key)
        if len(self._lines) > KEYS_MAX:
            self._lines.popitem(last=False)
        now = self._clock.monotonic()
        for known in [known for known, at in lines.items() if now - at >= REPEAT_S]:
            del lines[known]
        if partition in lines or len(lines) >= LINES_MAX:
            return
        lines[partition] = now
        first, end = error.hidden or (offset, None)
        log.error(
            "the store is damaged: offsets cannot be read",
            extra={
                "partition": str(partition),
                "offset": first,
                "end": "unknown" if end is None else end,
                "key": error.key,
                "what": str(error),
                "remedy": REMEDY,
            },
        )

    def restored(self, partition: TopicPartition, key: str) -> None:
        """What `partition` could not read of `key` could be read."""
        lines = self._lines.get(key)
        if lines is not None:
            lines.pop(partition, None)
            if not lines:
                del self._lines[key]

    @property
    def keys(self) -> Iterable[str]:
        """What is known to be damaged or missing."""
        return self._lines.keys()
