"""Requests of each API: how many, how long and where the time went, what went wrong; and the bytes of connections.

Plain numbers, turned into samples when they are scraped: counting one request with the registry's own counters takes
longer than parsing it. A request's time has four parts, as in Kafka's own metrics:

- queued: it has arrived and may not start yet: an earlier one runs, the engine has no room;
- worked: until it is answered or waits; requests that one read brought share it;
- waited: for data (the long poll), for the object store, for other members;
- sent: from the answer until the client has taken it.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final

from prometheus_client.core import Metric

from automq.protocol.apis import APIS, ApiKey
from automq.protocol.errors import ErrorCode
from automq.runtime.telemetry import LATENCY_BUCKETS_S, Metrics

QUEUED: Final = "queued"
WORKED: Final = "worked"
WAITED: Final = "waited"
SENT: Final = "sent"
PHASES: Final = (QUEUED, WORKED, WAITED, SENT)
DISTRIBUTED: Final = (ApiKey.PRODUCE, ApiKey.FETCH)
"""APIs whose phases have histograms; of the others the sums are enough."""

CAUSES: Final = ("malformed", "unsupported", "slow reader", "answer lost")
"""Why connections are closed."""

_GROUP_ERRORS: Final = (
    ErrorCode.NOT_COORDINATOR,
    ErrorCode.COORDINATOR_NOT_AVAILABLE,
    ErrorCode.COORDINATOR_LOAD_IN_PROGRESS,
    ErrorCode.UNKNOWN_MEMBER_ID,
    ErrorCode.ILLEGAL_GENERATION,
    ErrorCode.REBALANCE_IN_PROGRESS,
)
_READ_ERRORS: Final = (
    ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
    ErrorCode.UNKNOWN_TOPIC_ID,
    ErrorCode.NOT_LEADER_OR_FOLLOWER,
    ErrorCode.OFFSET_OUT_OF_RANGE,
    ErrorCode.CORRUPT_MESSAGE,
    ErrorCode.KAFKA_STORAGE_ERROR,
)
EXPECTED_ERRORS: Final[Mapping[int, Iterable[ErrorCode]]] = {
    ApiKey.PRODUCE: (
        *_READ_ERRORS,
        ErrorCode.REQUEST_TIMED_OUT,
        ErrorCode.MESSAGE_TOO_LARGE,
        ErrorCode.INVALID_RECORD,
        ErrorCode.INVALID_TIMESTAMP,
        ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER,
        ErrorCode.INVALID_PRODUCER_EPOCH,
        ErrorCode.UNKNOWN_PRODUCER_ID,
    ),
    ApiKey.FETCH: (*_READ_ERRORS, ErrorCode.FETCH_SESSION_ID_NOT_FOUND, ErrorCode.INVALID_FETCH_SESSION_EPOCH),
    ApiKey.LIST_OFFSETS: _READ_ERRORS,
    ApiKey.METADATA: (ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, ErrorCode.LEADER_NOT_AVAILABLE),
    ApiKey.CREATE_TOPICS: (
        ErrorCode.TOPIC_ALREADY_EXISTS,
        ErrorCode.INVALID_CONFIG,
        ErrorCode.INVALID_TOPIC_EXCEPTION,
        ErrorCode.REQUEST_TIMED_OUT,
    ),
    ApiKey.DELETE_TOPICS: (ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, ErrorCode.REQUEST_TIMED_OUT),
    ApiKey.FIND_COORDINATOR: (ErrorCode.COORDINATOR_NOT_AVAILABLE, ErrorCode.TRANSACTIONAL_ID_AUTHORIZATION_FAILED),
    ApiKey.JOIN_GROUP: (*_GROUP_ERRORS, ErrorCode.MEMBER_ID_REQUIRED, ErrorCode.INCONSISTENT_GROUP_PROTOCOL),
    ApiKey.SYNC_GROUP: _GROUP_ERRORS,
    ApiKey.HEARTBEAT: _GROUP_ERRORS,
    ApiKey.LEAVE_GROUP: _GROUP_ERRORS,
    ApiKey.OFFSET_COMMIT: _GROUP_ERRORS,
    ApiKey.OFFSET_FETCH: _GROUP_ERRORS,
    ApiKey.INIT_PRODUCER_ID: (ErrorCode.REQUEST_TIMED_OUT, ErrorCode.UNSUPPORTED_VERSION),
}
"""Errors that an API gives in the course of things: their series are there from the start. Any may have this one:"""
BUG: Final = ErrorCode.UNKNOWN_SERVER_ERROR


_SHORT_S: Final = LATENCY_BUCKETS_S[0]


class _Times:
    """A distribution of seconds."""

    __slots__ = ("buckets", "sum_s")

    def __init__(self) -> None:
        self.buckets = [0] * (len(LATENCY_BUCKETS_S) + 1)
        self.sum_s = 0.0

    def add(self, seconds: float, count: int = 1) -> None:
        self.buckets[bisect_left(LATENCY_BUCKETS_S, seconds)] += count
        self.sum_s += seconds * count

    @property
    def count(self) -> int:
        return sum(self.buckets)


class _Requests:
    """One API's."""

    __slots__ = ("errors", "queued", "sent", "total", "waited", "worked")

    def __init__(self, key: int) -> None:
        self.total, self.queued, self.worked, self.waited, self.sent = (_Times() for _ in range(5))
        self.errors = dict.fromkeys((int(BUG), *map(int, EXPECTED_ERRORS.get(key, ()))), 0)


class RequestMetrics:
    """All requests of one broker. `served` are the APIs that are handled."""

    def __init__(self, metrics: Metrics, served: Iterable[int] = APIS) -> None:
        self._by_api = {int(key): _Requests(key) for key in APIS}
        self._served = sorted(map(int, served))
        self.bytes_in = 0
        self.bytes_out = 0
        self.refused = dict.fromkeys(CAUSES, 0)
        self.requests_stalled = 0
        self.connections_over_limit: Mapping[str, int] = {}
        """By the setting whose limit was reached."""
        self.connections: dict[str, int] = {}
        """Open ones by listener."""
        declare = metrics.declare
        self._in = declare("automq_network_in_bytes", "counter", "Bytes received from clients")
        self._out = declare("automq_network_out_bytes", "counter", "Bytes sent to clients")
        self._open = declare("automq_connections", "gauge", "Open client connections", ["listener"])
        self._closed = declare(
            "automq_connections_refused", "counter", "Connections closed for what came in on them, by cause", ["cause"]
        )
        self._over_limit = declare(
            "automq_connections_over_limit", "counter", "Connections closed because there are too many", ["setting"]
        )
        self._stalled = declare(
            "automq_requests_stalled", "counter", "Connections closed because a request did not come in"
        )
        self._seconds = declare(
            "automq_request_seconds", "histogram", "From parsed request to answer, whatever it waited for", ["api"]
        )
        self._phase_seconds = declare(
            "automq_request_phase_seconds",
            "counter",
            "Time of requests by where it went: queued, worked, waited (for data, the store, members), sent",
            ["api", "phase"],
        )
        self._phases = declare(
            "automq_data_request_phase_seconds",
            "histogram",
            "The same for each Produce and Fetch request",
            ["api", "phase"],
        )
        self._errors = declare(
            "automq_request_errors",
            "counter",
            "Error codes in answers: of the whole answer, or of each topic, partition or group in it",
            ["api", "error"],
        )
        metrics.export(self._collect)

    # Told by connections.

    def answered(self, key: int, seconds: float, count: int = 1, *, worked_s: float = 0.0) -> None:
        """`count` requests of API `key` were answered after `seconds`, of which each worked `worked_s`."""
        requests = self._by_api[key]
        total, waited = requests.total, requests.waited
        waited_s = seconds - worked_s
        index = bisect_left(LATENCY_BUCKETS_S, seconds)
        total.buckets[index] += count
        total.sum_s += seconds * count
        # Mostly the same one: a search takes as long as all the rest.
        is_same = not index or waited_s > LATENCY_BUCKETS_S[index - 1]
        waited.buckets[index if is_same else bisect_left(LATENCY_BUCKETS_S, waited_s)] += count
        waited.sum_s += waited_s * count
        # Who works shortly is not counted one by one, as in the phases that are mostly 0.
        requests.worked.sum_s += worked_s * count
        if worked_s > _SHORT_S:
            requests.worked.buckets[bisect_left(LATENCY_BUCKETS_S, worked_s)] += count

    def queued(self, key: int, seconds: float) -> None:
        """One request may start now, after waiting for it."""
        self._by_api[key].queued.add(seconds)

    def sent(self, key: int, seconds: float) -> None:
        """A client took an answer that its socket did not take at once."""
        self._by_api[key].sent.add(seconds)

    def failed(self, key: int, code: int, count: int = 1) -> None:
        """An error code was answered."""
        errors = self._by_api[key].errors
        errors[code] = errors.get(code, 0) + count

    def error_counter(self, key: int) -> Callable[[int], None]:
        """`failed` for one API."""
        return lambda code: self.failed(key, code)

    def count(self, key: int) -> int:
        """Requests of API `key` answered so far."""
        return self._by_api[key].total.count

    # For the registry.

    def _collect(self) -> Iterator[Metric]:
        totals = ((self._in, self.bytes_in), (self._out, self.bytes_out), (self._stalled, self.requests_stalled))
        for family, value in totals:
            total = family.counters()
            total.add_metric([], value)
            yield total
        connections = self._open.gauges()
        for listener, count in self.connections.items():
            connections.add_metric([listener], count)
        yield connections
        refused = self._closed.counters()
        for cause, count in self.refused.items():
            refused.add_metric([cause], count)
        yield refused
        over_limit = self._over_limit.counters()
        for setting, count in self.connections_over_limit.items():
            over_limit.add_metric([setting], count)
        yield over_limit
        yield from self._collect_times()
        errors = self._errors.counters()
        for key in self._served:
            requests = self._by_api[key]
            for code, count in requests.errors.items():
                errors.add_metric([APIS[key].name, error_name(code)], count)
        yield errors

    def _collect_times(self) -> Iterator[Metric]:
        totals, sums, phases = self._seconds.histograms(), self._phase_seconds.counters(), self._phases.histograms()
        for key in self._served:
            name, requests = APIS[key].name, self._by_api[key]
            totals.add_metric([name], buckets=_cumulative(requests.total.buckets), sum_value=requests.total.sum_s)
            answered = requests.total.count
            for phase in PHASES:
                times: _Times = getattr(requests, phase)
                sums.add_metric([name, phase], times.sum_s)
                if key in DISTRIBUTED:
                    # Who was not counted one by one had none of it, or little.
                    at_once = max(0, answered - times.count)
                    counts = [times.buckets[0] + at_once, *times.buckets[1:]]
                    phases.add_metric([name, phase], buckets=_cumulative(counts), sum_value=times.sum_s)
        yield totals
        yield sums
        yield phases


def _cumulative(counts: Iterable[int]) -> list[tuple[str, float]]:
    total = 0
    buckets: list[tuple[str, float]] = []
    for bound, count in zip((*LATENCY_BUCKETS_S, "+Inf"), counts, strict=True):
        total += count
        buckets.append((str(bound), total))
    return buckets


def error_name(code: int) -> str:
    """As Kafka names it."""
    try:
        return ErrorCode(code).name
    except ValueError:
        return str(code)
