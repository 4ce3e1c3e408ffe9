"""Metrics of a process as the controller: declared once, counted by whichever `Controller` holds the claim."""

from collections.abc import Callable, Mapping

from automq.controller.orphans import orphans_counter
from automq.controller.reports import damage_gauge, watch_objects
from automq.ids import NodeId
from automq.metadata.image import MetadataImage
from automq.runtime.telemetry import Metrics


class BalancerMetrics:
    """What the balancer of this process sees and does; nothing but totals while another process is the controller."""

    def __init__(self, metrics: Metrics) -> None:
        self.moves = metrics.counter(
            "automq_balancer_moves", "Partitions that were moved so that brokers carry the same"
        )
        self._shares = metrics.gauge(
            "automq_balancer_share",
            "What a broker carries, relative to the mean, as the active controller saw it last",
            ["broker"],
        )
        self._planned = metrics.gauge(
            "automq_balancer_planned_moves", "Moves that the balancer of this controller decided on when it looked last"
        )
        self._under_way = metrics.gauge(
            "automq_balancer_moves_under_way", "Moves of the balancer that had not arrived when it looked last"
        )
        self._paused = metrics.gauge("automq_balancer_paused", "1 while this controller moves nothing, as it was told")

    def show(self, *, shares: Mapping[NodeId, float], planned: int, under_way: int, paused: bool) -> None:
        """What was seen last; brokers that are gone are no longer shown."""
        self._shares.clear()
        for node, share in shares.items():
            self._shares.labels(str(node)).set(share)
        self._planned.set(planned)
        self._under_way.set(under_way)
        self._paused.set(paused)

    def forget(self) -> None:
        """Another process is the controller now, or nobody."""
        self.show(shares={}, planned=0, under_way=0, paused=False)


class ControllerMetrics:
    """One of a process. `image` is the newest one that it has."""

    def __init__(self, metrics: Metrics, image: Callable[[], MetadataImage]) -> None:
        self.records = metrics.counter("automq_metadata_records", "Metadata records appended by this controller")
        self.renewals = metrics.counter("automq_lease_renewals", "PUTs of the controller's lease")
        self.active = metrics.gauge("automq_controller_active", "1 while this process holds the claim")
        self.orphans = orphans_counter(metrics)
        self.balancer = BalancerMetrics(metrics)
        self.damaged_keys = damage_gauge(metrics)
        watch_objects(metrics, image)
