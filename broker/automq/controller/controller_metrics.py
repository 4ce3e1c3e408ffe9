"""Metrics of a process as the controller: declared once, counted by whichever `Controller` holds the claim."""

from collections.abc import Callable

from automq.controller.orphans import orphans_counter
from automq.controller.reports import damage_gauge, watch_objects
from automq.metadata.image import MetadataImage
from automq.runtime.telemetry import Metrics


class ControllerMetrics:
    """One of a process. `image` is the newest one that it has."""

    def __init__(self, metrics: Metrics, image: Callable[[], MetadataImage]) -> None:
        self.records = metrics.counter("automq_metadata_records", "Metadata records appended by this controller")
        self.renewals = metrics.counter("automq_lease_renewals", "PUTs of the controller's lease")
        self.active = metrics.gauge("automq_controller_active", "1 while this process holds the claim")
        self.orphans = orphans_counter(metrics)
        self.balancer_moves = metrics.counter(
            "automq_balancer_moves", "Partitions that were moved so that brokers carry the same"
        )
        self.damaged_keys = damage_gauge(metrics)
        watch_objects(metrics, image)
