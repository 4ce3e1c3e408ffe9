"""Damage that the controller has found and goes on with: named once in the log, counted, and known until it is gone."""

import logging
from collections.abc import Callable, Sequence
from typing import Final

from prometheus_client import Gauge

from automq.metadata.image import MetadataImage
from automq.runtime.telemetry import Metrics
from automq.s3stream.model import StoreDamaged

log = logging.getLogger(__name__)

# More is counted, not named.
NAMED_MAX: Final = 100
REMEDY: Final = "look with `automq fsck`, give up what cannot be restored with `automq repair`"


class DamageReports:
    """One of a controller. `source` says which work found it: a round of it replaces what the last one found."""

    def __init__(self, *, gauge: Gauge) -> None:
        self._found: dict[str, dict[str, StoreDamaged]] = {}
        self._gauge = gauge
        gauge.set(0)

    @property
    def keys(self) -> Sequence[str]:
        """What is known to be damaged or missing now, sorted."""
        return sorted(key for found in self._found.values() for key in found)

    def replace(self, source: str, errors: Sequence[StoreDamaged]) -> None:
        """What a whole round of `source` found."""
        before = self._found.get(source, {})
        self._found[source] = {error.key: error for error in errors}
        self._gauge.set(len(self.keys))
        new = [error for error in self._found[source].values() if error.key not in before]
        for error in new[:NAMED_MAX]:
            log.error("the store is damaged", extra={"key": error.key, "what": str(error), "remedy": REMEDY})
        if len(new) > NAMED_MAX:
            log.error("the store is damaged at more keys", extra={"keys": len(new) - NAMED_MAX, "remedy": REMEDY})

    def add(self, source: str, error: StoreDamaged) -> None:
        """One more."""
        self.replace(source, [*self._found.get(source, {}).values(), error])

    def summary(self) -> str | None:
        """For people who look at the state; None when nothing is damaged."""
        keys = self.keys
        if not keys:
            return None
        return f"{len(keys)} keys of the store are damaged or missing, such as {keys[0]}: {REMEDY}"


def damage_gauge(metrics: Metrics) -> Gauge:
    """How many keys are known to be damaged."""
    return metrics.gauge(
        "automq_metadata_damaged_keys",
        "Keys that the metadata refer to, or are in, and that were found damaged or missing",
    )


def watch_objects(metrics: Metrics, image: Callable[[], MetadataImage]) -> None:
    """How many objects there are: numbers that the image has, whatever their size."""
    gauge = metrics.gauge(
        "automq_objects",
        "Objects that the metadata know: committed ones hold records or checkpoints, prepared ones are being uploaded, "
        "destroyed ones are to be deleted",
        ["state"],
    )
    gauge.labels("committed").set_function(lambda: len(image().committed))
    gauge.labels("prepared").set_function(lambda: len(image().prepared))
    gauge.labels("destroyed").set_function(lambda: len(image().destroyed))
