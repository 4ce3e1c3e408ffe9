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


REFUSED: Final = Counter(
    "automq_operator_refused",
    "Actions that the API server did not carry out, by kind and HTTP status (0: no answer).",
    ["kind", "code"],
    registry=REGISTRY,
)
INTERNAL_ERRORS: Final = Counter(
    "automq_operator_internal_errors", "Passes that ended in a bug of the operator.", registry=REGISTRY
)


def forget(namespace: str, name: str) -> None:
    """A cluster is gone: its series would look like a cluster that stands still."""
    for result in ("done", "failed"):
        RECONCILES.remove(namespace, name, result)
    for state in ("wanted", "serving"):
        BROKERS.remove(namespace, name, state)
    LAST_SUCCESS.remove(namespace, name)


class Health:
    """What /livez and /readyz answer; read by a thread of its own.

    Alive: the event loop turns and no pass over a cluster has been at work for longer than a pass may take. Ready: the
    API server has answered lately, and a replica that leads has seen everything that it watches.
    """

    BEAT_MAX_S: Final = 30.0
    PASS_MAX_S: Final = 180.0
    """Three times what a pass is allowed: one that its own deadline could not end."""
    ANSWER_MAX_S: Final = 60.0

    def __init__(self) -> None:
        self.beat_at = 0.0
        self.answered_at: float | None = None
        self.leading = False
        self.synced = False
        self.passes: dict[tuple[str, str], float] = {}
        """When each pass that is at work began."""

    def alive(self, now: float) -> str | None:
        """None, or what is wrong."""
        if now - self.beat_at > self.BEAT_MAX_S:
            return "the operator's loop does not turn"
        for key, began_at in dict(self.passes).items():
            if now - began_at > self.PASS_MAX_S:
                return f"the pass over {key[0]}/{key[1]} does not end"
        return None

    def ready(self, now: float) -> str | None:
        """None, or what is missing."""
        if self.answered_at is None:
            return "the API server has not answered yet"
        if now - self.answered_at > self.ANSWER_MAX_S:
            return "the API server does not answer"
        if self.leading and not self.synced:
            return "not everything that is watched has been seen yet"
        return None
