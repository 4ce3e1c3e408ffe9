"""/livez and /readyz of the operator say what they mean."""

from automq_operator.telemetry import Health


def a_health() -> Health:
    health = Health()
    health.beat_at = health.answered_at = 100.0
    return health


def test_finding_19_ready_only_after_the_api_server_answered() -> None:
    health = Health()
    assert health.ready(0.0) == "the API server has not answered yet"
    health.answered_at = 0.0
    assert health.ready(1.0) is None
    assert health.ready(1000.0) == "the API server does not answer"


def test_finding_19_a_leader_is_ready_when_it_has_seen_everything() -> None:
    health = a_health()
    health.leading = True
    assert health.ready(100.0) == "not everything that is watched has been seen yet"
    health.synced = True
    assert health.ready(100.0) is None


def test_finding_19_alive_while_the_loop_turns_and_passes_end() -> None:
    health = a_health()
    health.passes["team", "demo"] = 100.0
    assert health.alive(120.0) is None
    assert health.alive(140.0) == "the operator's loop does not turn"
    health.beat_at = 400.0
    assert health.alive(400.0) == "the pass over team/demo does not end"
    health.passes.clear()
    assert health.alive(400.0) is None
