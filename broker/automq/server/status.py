"""How a broker is, in one line for a person."""

from automq.runtime.telemetry import Metrics
from automq.server.broker import Broker
from automq.server.lifecycle import State


def status_line(broker: Broker) -> str:
    """State and, while serving, what it holds."""
    state = broker.lifecycle.state
    if state is not State.SERVING:
        return f"{state.value}: {broker.lifecycle.message}"
    metrics = broker.metrics
    image = broker.image
    topics = 0 if image is None else sum(not topic.is_internal for topic in image.topics())
    parts = [
        f"Serving {broker.bootstrap_address}",
        f"{topics} topics",
        f"{_number(metrics, 'automq_open_partitions')} partitions",
        f"{_number(metrics, 'automq_connections')} connections",
        f"{_number(metrics, 'automq_store_writes_total')} PUTs",
    ]
    if broker.lifecycle.reason is not None:
        parts.append(f"{broker.lifecycle.reason.value}: {broker.lifecycle.message}")
    return ", ".join(parts)


def _number(metrics: Metrics, name: str) -> str:
    return f"{metrics.registry.get_sample_value(name) or 0:.0f}"
