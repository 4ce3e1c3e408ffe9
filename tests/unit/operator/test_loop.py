"""A cluster's loop against an API in memory: what comes of actions, of silence, of lost watches and of bugs."""

import asyncio
import copy
import logging
from typing import Any

import pytest

from automq_operator import api, naming, telemetry
from automq_operator.api_server import ApiError
from automq_operator.cache import version_of
from automq_operator.loop import QUIET_S, ClusterLoop
from automq_operator.observed import Readyz
from tests.support.api_server_double import Harness, MemoryServer, a_pod, a_resource, ending


async def ready(harness: Harness, name: str = "demo", passes: int = 8) -> ClusterLoop:
    """A loop whose cluster has come to rest."""
    harness.server.nodes("node1", "node2")
    loop = harness.loop(name)
    for _ in range(passes):
        await loop.one_pass()
        harness.start_pods(name)
    assert harness.server.conditions(name)["Ready"] == ("True", "Serving")
    return loop


def a_harness(**spec: Any) -> Harness:
    harness = Harness()
    harness.server.put(a_resource(**spec))
    return harness


async def test_finding_20_an_idle_cluster_asks_the_api_server_nothing() -> None:
    harness = a_harness()
    loop = await ready(harness)
    harness.server.calls.clear()
    asked = harness.observer.asked
    for _ in range(5):
        assert await loop.one_pass() == QUIET_S
    assert harness.server.calls == []
    assert harness.observer.asked == asked + 5, "its broker is asked for its /readyz"


async def test_finding_01_a_resource_that_retains_its_data_has_no_finalizer() -> None:
    harness = a_harness()
    await ready(harness)
    assert not harness.server.objects[api.KIND, "team", "demo"]["metadata"].get("finalizers")


async def test_finding_01_the_finalizer_comes_and_goes_with_the_policy() -> None:
    harness = a_harness(storage={"deletionPolicy": "Delete"})
    loop = await ready(harness)
    body = copy.deepcopy(harness.server.objects[api.KIND, "team", "demo"])
    assert body["metadata"]["finalizers"] == [naming.FINALIZER]
    body["spec"]["storage"]["deletionPolicy"] = "Retain"
    body["metadata"]["finalizers"].append("somebody.else/finalizer")
    harness.server.put(body)
    await loop.one_pass()
    assert harness.server.objects[api.KIND, "team", "demo"]["metadata"]["finalizers"] == ["somebody.else/finalizer"]


async def test_finding_02_a_refused_child_is_reported_and_does_not_block_the_others() -> None:
    harness = a_harness()
    words = 'Service "demo-kafka" is invalid: metadata.name: not a DNS-1035 label'
    harness.server.refuses["apply", "Service"] = ApiError(status=422, message=words, what="PATCH")
    harness.server.nodes("node1")
    refused = telemetry.REFUSED.labels("Service", "422")._value.get()
    loop = harness.loop()
    for _ in range(6):
        await loop.one_pass()
        harness.start_pods()
    assert ("StatefulSet", "team", "demo-broker") in harness.server.objects
    status = harness.server.status()
    conditions = {item.type: item for item in status.conditions}
    assert (conditions["Ready"].status, conditions["Ready"].reason) == ("False", "Refused")
    assert (conditions["Progressing"].status, conditions["Progressing"].reason) == ("False", "Refused")
    for name in ("Ready", "Progressing"):
        assert "Service/demo-kafka" in conditions[name].message
        assert words in conditions[name].message
    told = [note for note in harness.told if note.reason == "Refused"]
    assert len([note for note in told if note.about == "Service/demo-kafka"]) == 1, "one Event for one message"
    assert telemetry.REFUSED.labels("Service", "422")._value.get() > refused


async def test_finding_02_what_was_refused_is_not_asked_again_every_second_and_heals() -> None:
    harness = a_harness()
    loop = await ready(harness)
    harness.server.meddle("Service", "demo-kafka", {"selector": {"a": "b"}})
    harness.server.refuses["apply", "Service"] = ApiError(status=403, message="exceeded quota", what="PATCH")
    harness.server.calls.clear()
    for _ in range(20):
        await loop.one_pass()
    assert harness.server.calls.count("apply Service/demo-kafka") == 1
    assert harness.server.conditions()["Ready"] == ("True", "Serving"), "what is there serves on"
    assert harness.server.conditions()["Progressing"] == ("False", "Refused")
    harness.server.refuses.clear()
    await change(harness, config={"num.partitions": "3"})
    loop._outcomes._failures.clear()  # its time has come
    for _ in range(4):
        await loop.one_pass()
        harness.start_pods()
    assert harness.server.conditions()["Progressing"] == ("False", "Settled")


async def change(harness: Harness, **spec: Any) -> None:
    body = copy.deepcopy(harness.server.objects[api.KIND, "team", "demo"])
    body["spec"] |= spec
    body["metadata"]["generation"] += 1
    harness.server.put(body)


async def test_finding_02_a_passing_failure_is_tried_at_once_and_no_news() -> None:
    harness = a_harness()
    harness.server.nodes("node1")
    harness.server.refuses["apply", "ConfigMap"] = ApiError(status=429, message="too many requests", what="PATCH")
    loop = harness.loop()
    await loop.one_pass()
    harness.server.refuses.clear()
    for _ in range(6):
        await loop.one_pass()
        harness.start_pods()
    assert harness.server.conditions()["Ready"] == ("True", "Serving")
    assert [note for note in harness.told if note.reason == "Refused"] == []


async def test_finding_04_one_unanswered_probe_deletes_nobody() -> None:
    harness = a_harness()
    loop = await ready(harness)
    harness.server.calls.clear()
    harness.observer.answers["demo-broker-0"] = None
    for _ in range(15):
        await loop.one_pass()
    assert "delete Pod/demo-broker-0" not in harness.server.calls
    assert harness.server.conditions()["Ready"] == ("True", "Serving")


async def test_finding_06_a_bug_is_logged_once_with_its_traceback_counted_and_in_the_status(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    harness = a_harness()
    loop = await ready(harness)

    async def broken(*_: Any, **__: Any) -> Any:
        raise KeyError("what nobody foresaw")

    monkeypatch.setattr(harness.observer, "observe", broken)
    counted = telemetry.INTERNAL_ERRORS._value.get()
    with caplog.at_level(logging.ERROR):
        for _ in range(3):
            assert await loop._guarded_pass() is not None
    assert [bool(record.exc_info) for record in caplog.records if record.levelno == logging.ERROR] == [True]
    assert telemetry.INTERNAL_ERRORS._value.get() == counted + 3
    assert harness.server.conditions()["Ready"] == ("Unknown", "InternalError")
    monkeypatch.undo()
    await loop._guarded_pass()
    assert harness.server.conditions()["Ready"] == ("True", "Serving")


@pytest.mark.parametrize("spec", [{"listeners": "no list"}, {"replicas": "many"}])
async def test_finding_03_a_spec_of_another_release_is_reported_and_deleted(spec: dict[str, Any]) -> None:
    harness = a_harness(**spec)
    harness.server.nodes("node1")
    loop = harness.loop()
    await loop.one_pass()
    assert harness.server.conditions()["Ready"] == ("Unknown", "InvalidSpec")
    body = harness.server.objects[api.KIND, "team", "demo"]
    body["metadata"]["finalizers"] = [naming.FINALIZER]
    harness.server.put(ending(body))
    await loop.one_pass()
    assert (api.KIND, "team", "demo") not in harness.server.objects, "Retain needs no look at anything"


async def test_finding_03_a_pass_that_hangs_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    harness = a_harness()
    harness.server.delay_s = 3600.0
    monkeypatch.setattr("automq_operator.loop.PASS_MAX_S", 0.05)
    assert await harness.loop()._guarded_pass() is not None
    assert harness.health.passes == {}


async def test_finding_07_values_that_the_api_server_drops_cause_no_writes() -> None:
    pod = {"hostNetwork": False, "containers": [{"name": "broker", "env": [{"name": "A", "value": ""}]}]}
    harness = a_harness(
        template={"pod": {"spec": pod}}, resources={"requests": {"cpu": "0.5"}, "limits": {"memory": "1E"}}
    )
    loop = await ready(harness)
    writes = harness.server.writes
    for _ in range(5):
        await loop.one_pass()
    assert harness.server.writes == writes
    await change(harness, config={"num.partitions": "3"})
    uid = harness.server.objects["Pod", "team", "demo-broker-0"]["metadata"]["uid"]
    for _ in range(5):
        await loop.one_pass()
        harness.start_pods()
    assert harness.server.objects["Pod", "team", "demo-broker-0"]["metadata"]["uid"] != uid


async def test_finding_07_the_port_of_a_removed_listener_goes() -> None:
    internal = {"name": "internal", "port": 9092}
    harness = a_harness(listeners=[internal, {"name": "second", "port": 9095}])
    loop = await ready(harness)
    await change(harness, listeners=[internal])
    for _ in range(3):
        await loop.one_pass()
    ports = harness.server.objects["Service", "team", "demo-kafka"]["spec"]["ports"]
    assert [port["port"] for port in ports] == [9092]


async def test_finding_07_what_another_changes_is_put_right_once() -> None:
    harness = a_harness()
    loop = await ready(harness)
    harness.server.meddle("Service", "demo-kafka", {"selector": {"wrong": "label"}})
    writes = harness.server.writes
    for _ in range(4):
        await loop.one_pass()
    assert harness.server.objects["Service", "team", "demo-kafka"]["spec"]["selector"] != {"wrong": "label"}
    assert harness.server.writes - writes == 3, "the Service, and the status there and back"


async def test_finding_12_a_stranger_without_our_label_is_not_taken_over() -> None:
    harness = a_harness()
    stranger = {"kind": "ConfigMap", "metadata": {"name": "demo-config", "namespace": "team"}, "data": {"x": "y"}}
    harness.server.put(copy.deepcopy(stranger))
    harness.server.nodes("node1")
    loop = harness.loop()
    for _ in range(4):
        await loop.one_pass()
    assert harness.server.objects["ConfigMap", "team", "demo-config"]["data"] == {"x": "y"}
    assert harness.server.conditions()["Progressing"] == ("False", "NameConflict")
    del harness.server.objects["ConfigMap", "team", "demo-config"]
    for _ in range(4):
        await loop.one_pass()
        harness.start_pods()
    assert harness.server.conditions()["Ready"] == ("True", "Serving")


async def test_finding_12_a_strangers_pod_with_our_labels_is_no_broker() -> None:
    harness = a_harness()
    loop = await ready(harness)
    live = harness.server.objects["StatefulSet", "team", "demo-broker"]
    copied = a_pod("debug-copy", live)
    copied["metadata"] |= {"ownerReferences": [], "annotations": {}}
    harness.server.put(copied)
    for _ in range(5):
        await loop.one_pass()
    assert ("Pod", "team", "debug-copy") in harness.server.objects
    assert harness.server.status().ready == "1/1"


async def test_finding_17_the_same_event_is_told_again_when_it_happens_again() -> None:
    harness = a_harness()
    loop = await ready(harness)
    for number in ("1", "2"):
        await change(harness, config={"num.partitions": number})
        for _ in range(5):
            await loop.one_pass()
            harness.start_pods()
    assert [note.reason for note in harness.told].count("RollingBroker") == 2


async def test_finding_17_a_refusal_that_comes_back_is_told_again() -> None:
    harness = a_harness()
    loop = await ready(harness)
    refusal = ApiError(status=403, message="exceeded quota", what="PATCH")
    for _ in range(2):
        harness.server.meddle("Service", "demo-kafka", {"selector": {"a": "b"}})
        harness.server.refuses["apply", "Service"] = refusal
        for _ in range(3):
            await loop.one_pass()
        harness.server.refuses.clear()
        loop._outcomes._failures.clear()
        for _ in range(3):
            await loop.one_pass()
    assert [note.reason for note in harness.told].count("Refused") == 2


async def test_finding_18_a_paused_cluster_is_quiet_and_says_what_is_true() -> None:
    harness = a_harness()
    loop = await ready(harness)
    await change(harness, paused=True, config={"num.partitions": "3"})
    delays = [await loop.one_pass() for _ in range(4)]
    assert delays == [QUIET_S] * 4
    assert harness.server.conditions() == {
        "Ready": ("True", "Serving"),
        "StorageReady": ("True", "Available"),
        "Progressing": ("False", "Paused"),
        "ScalingSettled": ("True", "Settled"),
        "Paused": ("True", "Asked"),
    }


async def test_finding_19_metrics_of_a_deleted_cluster_go() -> None:
    harness = a_harness()
    loop = await ready(harness)
    await loop._guarded_pass()
    samples = [sample for metric in telemetry.REGISTRY.collect() for sample in metric.samples]
    assert [sample for sample in samples if sample.labels.get("cluster") == "demo"]
    del harness.server.objects[api.KIND, "team", "demo"]
    await asyncio.wait_for(loop.run(), 5)
    samples = [sample for metric in telemetry.REGISTRY.collect() for sample in metric.samples]
    assert [sample for sample in samples if sample.labels.get("cluster") == "demo"] == []


async def test_finding_11_ready_is_false_while_the_broker_reports_its_store() -> None:
    harness = a_harness()
    loop = await ready(harness)
    harness.observer.answers["demo-broker-0"] = Readyz(state="Serving", reason="StoreUnreachable", message="no answer")
    await loop.one_pass()
    assert harness.server.conditions()["Ready"] == ("False", "Store")
    assert harness.server.status().phase == "Degraded"
    assert "StoreUnreachable" in [note.reason for note in harness.told]
    harness.observer.answers.clear()
    await loop.one_pass()
    assert harness.server.conditions()["Ready"] == ("True", "Serving")


async def test_a_write_of_ours_is_seen_before_the_watch_shows_it() -> None:
    harness = a_harness()
    harness.server.nodes("node1")
    harness.watches.lose()
    loop = harness.loop()
    for _ in range(4):
        await loop.one_pass()
    applied = [call for call in harness.server.calls if call.startswith("apply")]
    assert len(applied) == len(set(applied)), "nothing is applied twice because a watch is late"


async def test_a_lost_watch_deletes_nothing_and_a_list_corrects_it() -> None:
    harness = a_harness()
    loop = await ready(harness)
    harness.watches.lose()
    old = harness.server.objects.pop(("Pod", "team", "demo-broker-0"))
    harness.start_pods()
    known = harness.cache.known("Pod")
    assert old["metadata"]["uid"] in known
    items = await harness.server.list("Pod", None)
    assert harness.cache.listed("Pod", items, known=known) == 2
    (shown,) = harness.cache.pods("team", "demo")
    assert shown["metadata"]["uid"] != old["metadata"]["uid"]
    assert version_of(shown) == version_of(harness.server.objects["Pod", "team", "demo-broker-0"])
    await loop.one_pass()
    assert harness.server.conditions()["Ready"] == ("True", "Serving")


async def test_finding_09_a_wiped_status_restarts_nobody_and_forgets_nothing() -> None:
    harness = a_harness()
    await ready(harness)
    uid = harness.server.objects["Pod", "team", "demo-broker-0"]["metadata"]["uid"]
    body = copy.deepcopy(harness.server.objects[api.KIND, "team", "demo"])
    del body["status"]
    harness.server.put(body)
    harness.observer.answers["demo-broker-0"] = None
    restarted = harness.loop()
    for _ in range(5):
        await restarted.one_pass()
        harness.start_pods()
    assert harness.server.objects["Pod", "team", "demo-broker-0"]["metadata"]["uid"] == uid
    assert harness.server.status().cluster_id == "the-cluster-id"


async def test_unreachable_api_server_ends_no_loop() -> None:
    server = MemoryServer()
    server.put(a_resource())
    harness = Harness(server)
    loop = harness.loop()
    for verb in ("get", "apply", "status"):
        for kind in ("ConfigMap", "Service", "StatefulSet", "ServiceAccount", "PodDisruptionBudget", api.KIND):
            server.refuses[verb, kind] = ApiError(status=0, message="ServerDisconnectedError", what=verb)
    running = asyncio.create_task(loop.run())
    await asyncio.sleep(0.05)
    assert not running.done()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_finding_02_a_finalizer_that_is_refused_holds_nothing_up_and_is_said() -> None:
    harness = a_harness(storage={"deletionPolicy": "Delete"})
    harness.server.nodes("node1")
    harness.server.refuses["finalizers", api.KIND] = ApiError(status=403, message="forbidden", what="PATCH")
    loop = harness.loop()
    for _ in range(8):
        await loop.one_pass()
        harness.start_pods()
    assert harness.server.conditions()["Ready"] == ("True", "Serving")
    assert harness.server.conditions()["Progressing"] == ("False", "Refused")
    assert harness.server.calls.count(f"finalizers {api.KIND}/demo") == 1
    harness.server.refuses.clear()
    loop._outcomes._failures.clear()  # its time has come
    for _ in range(3):
        await loop.one_pass()
    assert harness.server.conditions()["Progressing"] == ("False", "Settled")


@pytest.mark.parametrize("remade", [True, False])
async def test_a_child_that_is_another_than_the_watch_shows_is_looked_at(remade: bool) -> None:
    harness = a_harness()
    loop = await ready(harness)
    harness.watches.lose()
    old = harness.server.objects.pop(("Service", "team", "demo-kafka"))
    if remade:
        another = copy.deepcopy(old)
        del another["metadata"]["uid"]
        harness.server.put(another)
    await change(harness, listeners=[{"name": "internal", "port": 9093}])
    harness.cache.wrote(api.KIND, harness.server.objects[api.KIND, "team", "demo"])
    for _ in range(3):
        await loop.one_pass()
    service = harness.server.objects["Service", "team", "demo-kafka"]
    assert [port["port"] for port in service["spec"]["ports"]] == [9093]
    assert service["metadata"]["uid"] != old["metadata"]["uid"]
