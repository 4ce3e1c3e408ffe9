"""The operator's metrics, and its health as probes see it."""

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

REGISTRY: Final = CollectorRegistry()
PROCESS: Final = ProcessCollector(registry=REGISTRY)

RECONCILES: Final = Counter(
    "automq_operator_reconcile", "Passes over a cluster.", ["namespace", "cluster", "result"], registry=REGISTRY
)
RECONCILE_SECONDS: Final = Histogram(
    "automq_operator_reconcile_duration_seconds", "Time of one pass, waiting for the API included.", registry=REGISTRY
)
WRITES: Final = Gauge("automq_operator_api_writes", "Requests that could change something, so far.", registry=REGISTRY)
LAST_SUCCESS: Final = Gauge(
    "automq_operator_reconcile_last_success_timestamp_seconds",
    "When a pass last ended well.",
    ["namespace", "cluster"],
    registry=REGISTRY,
)
LEADER: Final = Gauge("automq_operator_leader", "1 while this replica works.", registry=REGISTRY)
BROKERS: Final = Gauge(
    "automq_cluster_brokers",
    "Brokers by what they are: wanted, serving.",
    ["namespace", "cluster", "state"],
    registry=REGISTRY,
)


class Health:
    """What /livez and /readyz answer. The loop beats; a beat that is too old means it hangs."""

    BEAT_MAX_S: Final = 30.0

    def __init__(self) -> None:
        self.beat_at = 0.0
        self.ready = False

    def alive(self, now: float) -> bool:
        """Whether the event loop has turned lately."""
        return now - self.beat_at <= self.BEAT_MAX_S
