"""What the store was asked, as its owner pays for it: requests, and bytes of bodies, by operation and purpose."""

from typing import Final

from automq.runtime.telemetry import Metrics
from automq.s3stream.store.requests import Operation, Purpose, Request, RequestOutcome

REQUESTS: Final = "automq_store_requests"
# What a person calls a PUT: requests that carry an object's bytes, and those about them.
PUTS: Final = frozenset(
    {
        Operation.PUT_OBJECT,
        Operation.UPLOAD_PART,
        Operation.CREATE_MULTIPART_UPLOAD,
        Operation.COMPLETE_MULTIPART_UPLOAD,
    }
)


class StoreRequests:
    """Counts. Every series is there before its first event, so that a rate can be had of it."""

    def __init__(self, metrics: Metrics) -> None:
        names = ["operation", "purpose"]
        requests = metrics.counter(
            REQUESTS, "Requests to the object store, each try counted, by S3's names", [*names, "outcome"]
        )
        sent = metrics.counter("automq_store_sent_bytes", "Bytes of bodies sent to the object store", names)
        received = metrics.counter("automq_store_received_bytes", "Bytes of bodies read from the object store", names)
        pairs = [(operation, purpose) for operation in Operation for purpose in Purpose]
        self._requests = {
            (*pair, outcome): requests.labels(*pair, outcome) for pair in pairs for outcome in RequestOutcome
        }
        self._sent = {pair: sent.labels(*pair) for pair in pairs}
        self._received = {pair: received.labels(*pair) for pair in pairs}

    def add(self, request: Request) -> None:
        """After their end."""
        pair = (request.operation, request.purpose)
        self._requests[*pair, request.outcome].inc(request.count)
        if request.sent_bytes:
            self._sent[pair].inc(request.sent_bytes)
        if request.received_bytes:
            self._received[pair].inc(request.received_bytes)


def puts_so_far(metrics: Metrics) -> int:
    """How many PUTs there were, tries that failed included."""
    registry = metrics.registry.restricted_registry([f"{REQUESTS}_total"])
    return int(
        sum(sample.value for metric in registry.collect() for sample in metric.samples if _is_put(sample.labels))
    )


def _is_put(labels: dict[str, str]) -> bool:
    return labels.get("operation") in PUTS
