"""What `/readyz` says and which program says it, as metrics: states and reasons are series that are 1 or 0."""

import platform
from collections.abc import Callable, Iterator

from prometheus_client.core import Metric

from automq import __version__, core
from automq.metadata.image import MetadataImage
from automq.runtime.telemetry import Metrics
from automq.server.lifecycle.states import Lifecycle, Reason, State


class StateMetrics:
    """Of one broker. `image` is the newest durable one, None before there is one."""

    def __init__(self, metrics: Metrics, *, lifecycle: Lifecycle, image: Callable[[], MetadataImage | None]) -> None:
        self._lifecycle = lifecycle
        self._image = image
        declare = metrics.declare
        self._info = declare("automq_build_info", "gauge", "1, with what is running", ["version", "python", "core"])
        self._ready = declare("automq_ready", "gauge", "1 while /readyz is 200")
        self._state = declare("automq_state", "gauge", "1 for the state of /readyz, 0 for the others", ["state"])
        self._reason = declare("automq_reason", "gauge", "1 for the reason of /readyz, 0 for the others", ["reason"])
        self._topics = declare("automq_topics", "gauge", "Topics of the cluster, internal ones too")
        metrics.export(self._collect)

    def _collect(self) -> Iterator[Metric]:
        lifecycle, image = self._lifecycle, self._image()
        info = self._info.gauges()
        info.add_metric([__version__, platform.python_version(), core.kind], 1)
        ready = self._ready.gauges()
        ready.add_metric([], int(lifecycle.is_ready))
        states = self._state.gauges()
        for state in State:
            states.add_metric([state.value], int(lifecycle.state is state))
        reasons = self._reason.gauges()
        for reason in Reason:
            reasons.add_metric([reason.value], int(lifecycle.reason is reason))
        topics = self._topics.gauges()
        topics.add_metric([], 0 if image is None else len(image.topic_map))
        yield from (info, ready, states, reasons, topics)
