"""Settings that brokers take while they run: applied, verified, unset and corrected; nobody is restarted for one."""

import dataclasses

import msgspec
import pytest

from automq_operator import api
from automq_operator.cluster import Cluster
from automq_operator.observed import Readyz
from automq_operator.plan import SetConfigs
from tests.support.kubernetes_double import World, a_cluster
from tests.support.planner import changed, converge, decide, one_pass, reasons

NAME, OTHER = "log.retention.ms", "log.retention.bytes"


def ready(replicas: int = 3, **config: str) -> tuple[Cluster, World]:
    world = World()
    return converge(a_cluster(replicas=replicas, config=config), world), world


def with_config(cluster: Cluster, **config: str) -> Cluster:
    return changed(cluster, replicas=cluster.spec.replicas, config=config)


def file(world: World) -> dict[str, str]:
    text = world.objects["ConfigMap", "demo-config"]["data"]["broker.properties"]
    return dict(line.partition("=")[::2] for line in text.splitlines())


def message(cluster: Cluster, kind: str = "ConfigApplied") -> str:
    return next(item.message for item in cluster.status.conditions if item.type == kind)


def test_a_dynamic_config_is_set_for_all_brokers_and_restarts_nobody() -> None:
    cluster, world = ready()
    assert "ConfigApplied" not in reasons(cluster), "there is nothing to say"
    uids = {name: pod.uid for name, pod in world.pods.items()}
    cluster = converge(with_config(cluster, **{NAME: "7200000"}), world)
    assert world.shared_configs == {NAME: "7200000"}
    assert {name: pod.uid for name, pod in world.pods.items()} == uids
    assert reasons(cluster)["ConfigApplied"] == ("True", "Settled")
    assert cluster.status.dynamic_configs == [NAME]
    assert file(world)[NAME] == "7200000", "a broker that starts has it from the beginning"


def test_it_is_in_the_status_before_it_is_set_so_that_a_dead_operator_leaves_nothing_behind() -> None:
    cluster, world = ready()
    cluster, plan = one_pass(with_config(cluster, **{NAME: "1"}), world)
    assert not [item for item in plan.actions if isinstance(item, SetConfigs)]
    assert cluster.status.dynamic_configs == [NAME]
    assert reasons(cluster)["ConfigApplied"] == ("False", "Configuring")
    cluster, plan = one_pass(cluster, world)
    assert [item.set for item in plan.actions if isinstance(item, SetConfigs)] == [{NAME: "1"}]
    # Dead before the answer, and the wish is taken back before the next operator begins.
    cluster = converge(with_config(cluster), world)
    assert world.shared_configs == {}
    assert cluster.status.dynamic_configs == []


def test_events_say_what_is_set_and_that_it_is_applied() -> None:
    cluster, world = ready()
    cluster, _ = one_pass(with_config(cluster, **{NAME: "1"}), world)
    cluster, plan = one_pass(cluster, world)
    assert [note.message for note in plan.notes if note.reason == "SettingConfigs"] == [
        "without a restart, of all brokers: log.retention.ms=1"
    ]
    assert reasons(cluster)["Progressing"] == ("True", "Configuring")
    _, plan = one_pass(cluster, world)
    assert "ConfigApplied" in [note.reason for note in plan.notes]


def test_a_mix_sets_the_one_and_rolls_for_the_other() -> None:
    cluster, world = ready()
    converge(with_config(cluster, **{NAME: "1", "num.partitions": "3"}), world, passes=24)
    assert world.shared_configs == {NAME: "1"}
    assert sorted(world.deleted_pods) == ["demo-broker-0", "demo-broker-1", "demo-broker-2"]


@pytest.mark.parametrize("from_file", [False, True])
def test_a_config_that_is_taken_out_holds_no_more(from_file: bool) -> None:
    cluster, world = ready(**({NAME: "1"} if from_file else {}))
    cluster = converge(with_config(cluster, **{NAME: "2"}), world)
    world.deleted_pods.clear()
    cluster = converge(with_config(cluster), world)
    assert NAME not in file(world)
    if from_file:
        # Brokers that run have it from their file: what means the same as none is stronger.
        assert world.shared_configs == {NAME: "604800000"}
        assert reasons(cluster)["ConfigApplied"] == ("True", "Settled")
        cluster = converge(dataclasses.replace(cluster, restart="now"), world, passes=24)
    assert world.shared_configs == {}
    assert cluster.status.dynamic_configs == []
    assert "ConfigApplied" not in reasons(converge(cluster, world))
    assert from_file or world.deleted_pods == []


def test_drift_is_corrected_and_what_nobody_named_is_nobodys_business() -> None:
    cluster, world = ready(**{NAME: "1"})
    world.shared_configs |= {NAME: "5", OTHER: "6"}
    world.own_configs[1] = {NAME: "7", OTHER: "8"}
    cluster = converge(cluster, world)
    assert world.shared_configs == {NAME: "1", OTHER: "6"}
    assert world.own_configs[1] == {OTHER: "8"}


def test_a_value_in_another_form_is_no_drift() -> None:
    cluster, world = ready(**{"log.preallocate": " TRUE ", "log.cleanup.policy": "compact, delete"})
    world.shared_configs |= {"log.preallocate": "true", "log.cleanup.policy": "compact,delete"}
    assert not decide(cluster, world).actions


def test_a_refused_value_is_a_condition_in_the_brokers_words_and_meets_no_broker_that_starts() -> None:
    cluster, world = ready(**{NAME: "1"})
    words = "INVALID_REQUEST: Invalid value -5 for configuration log.retention.ms: Value must be at least -1"
    world.refused_values["-5"] = words
    cluster = with_config(cluster, **{NAME: "-5", OTHER: "9"})
    for _ in range(5):
        cluster, plan = one_pass(cluster, world)
    assert plan.converged, "it is not asked for every second"
    assert reasons(cluster)["ConfigApplied"] == ("False", "Refused")
    assert message(cluster) == words
    assert reasons(cluster)["Progressing"] == ("False", "Refused")
    assert reasons(cluster)["Ready"] == ("True", "Serving")
    assert world.shared_configs == {NAME: "1", OTHER: "9"}, "the other one is set"
    assert file(world)[NAME] == "1"
    cluster = converge(with_config(cluster, **{NAME: "3"}), world)
    assert world.shared_configs == {NAME: "3"}
    assert reasons(cluster)["ConfigApplied"] == ("True", "Settled")


def test_a_refused_value_holds_up_neither_a_roll_nor_a_scaling() -> None:
    cluster, world = ready(2)
    world.refused_values["-5"] = "INVALID_REQUEST: no"
    cluster = changed(cluster, replicas=3, config={NAME: "-5"}, image="automq:2")
    for _ in range(20):
        cluster, _ = one_pass(cluster, world)
    assert sorted(world.pods) == ["demo-broker-0", "demo-broker-1", "demo-broker-2"]
    assert {pod.restart_hash for pod in world.pods.values()} == {world.pods["demo-broker-0"].restart_hash}
    assert len(world.deleted_pods) == 2
    assert reasons(cluster)["ScalingSettled"] == ("True", "Settled")


def test_brokers_that_refuse_their_first_file_get_the_corrected_one() -> None:
    world = World()
    world.readyz = Readyz(state="Starting")
    cluster = a_cluster(config={NAME: "x"})
    for _ in range(3):
        cluster, _ = one_pass(cluster, world)
    assert file(world)[NAME] == "x"
    cluster = with_config(cluster, **{NAME: "1"})
    for _ in range(3):
        cluster, _ = one_pass(cluster, world)
    assert file(world)[NAME] == "1"
    assert reasons(cluster)["ConfigApplied"][0] == "Unknown"


def test_a_broker_whose_release_refuses_what_its_file_has_is_given_what_the_spec_says() -> None:
    cluster, world = ready(1, **{NAME: "1"})
    said = ("InvalidSettings", "log.retention.ms: no")
    world.change_pod("demo-broker-0", running=False, ready=False, readyz=None, last_words=said)
    one_pass(with_config(cluster, **{NAME: "2"}), world)
    assert file(world)[NAME] == "2"


def test_a_single_broker_that_restarts_does_not_meet_what_it_refused() -> None:
    cluster, world = ready(1, **{NAME: "1"})
    world.refused_values["-5"] = "INVALID_REQUEST: no"
    cluster = with_config(cluster, **{NAME: "-5"})
    for _ in range(3):
        cluster, _ = one_pass(cluster, world)
    world.change_pod("demo-broker-0", running=False, ready=False, readyz=None)
    one_pass(cluster, world)
    assert file(world)[NAME] == "1"


def test_a_pause_sets_nothing_and_says_so() -> None:
    cluster, world = ready()
    cluster = changed(cluster, replicas=3, config={NAME: "1"}, paused=True)
    for _ in range(3):
        cluster, _ = one_pass(cluster, world)
    assert world.shared_configs == {}
    assert reasons(cluster)["ConfigApplied"] == ("False", "Paused")


def test_a_status_that_was_wiped_changes_no_setting() -> None:
    cluster, world = ready(**{NAME: "1"})
    cluster = dataclasses.replace(cluster, status=api.Status())
    cluster = converge(cluster, world)
    assert world.shared_configs == {NAME: "1"}
    assert cluster.status.dynamic_configs == [NAME]


def test_names_in_the_status_that_this_release_does_not_know_are_dropped() -> None:
    cluster, world = ready(**{NAME: "1"})
    status = msgspec.structs.replace(cluster.status, dynamic_configs=["of.another.release", NAME])
    cluster, _ = one_pass(dataclasses.replace(cluster, status=status), world)
    assert cluster.status.dynamic_configs == [NAME]
