"""State, reason and build as metrics."""

import platform

from automq import __version__, core
from automq.runtime.telemetry import Metrics
from automq.server.lifecycle.states import Event, Lifecycle, Reason, State
from automq.server.observability.state_metrics import StateMetrics


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(name, labels)


def test_one_state_and_at_most_one_reason_is_1() -> None:
    metrics, lifecycle = Metrics(), Lifecycle()
    StateMetrics(metrics, lifecycle=lifecycle, image=lambda: None)
    assert value(metrics, "automq_state", state="Starting") == 1
    assert value(metrics, "automq_ready") == 0

    lifecycle.move(Event.BLOCKED, "away", Reason.STORE_UNREACHABLE)

    assert [value(metrics, "automq_state", state=state.value) for state in State].count(1) == 1
    assert value(metrics, "automq_state", state="Waiting") == 1
    assert value(metrics, "automq_reason", reason="StoreUnreachable") == 1
    assert [value(metrics, "automq_reason", reason=reason.value) for reason in Reason].count(0) == len(Reason) - 1

    lifecycle.move(Event.REGISTERED, "")
    lifecycle.move(Event.RECOVERED, "serving")
    assert value(metrics, "automq_ready") == 1
    lifecycle.set_reason("no answer", Reason.STORE_UNREACHABLE, is_able=False)
    assert value(metrics, "automq_ready") == 0
    assert value(metrics, "automq_state", state="Serving") == 1


def test_build_is_named() -> None:
    metrics = Metrics()
    StateMetrics(metrics, lifecycle=Lifecycle(), image=lambda: None)

    build = {"version": __version__, "python": platform.python_version(), "core": core.kind}
    assert value(metrics, "automq_build_info", **build) == 1
