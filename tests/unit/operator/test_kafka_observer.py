"""What a loop asks of the Kafka cluster: settings that brokers take while they run, and brokers that are gone."""

import asyncio
import copy
from typing import Any

from automq_operator import api
from automq_operator.kafka_admin import AdminFailed
from automq_operator.kafka_observer import ASKED_S
from automq_operator.loop import ClusterLoop
from automq_operator.observed import Readyz
from tests.support.api_server_double import Harness, a_resource


async def ready(harness: Harness) -> ClusterLoop:
    """A loop whose cluster has come to rest."""
    harness.server.nodes("node1", "node2")
    loop = harness.loop()
    for _ in range(8):
        await loop.one_pass()
        harness.start_pods()
    assert harness.server.conditions()["Ready"] == ("True", "Serving")
    return loop


def a_harness(**spec: Any) -> Harness:
    harness = Harness()
    harness.server.put(a_resource(**spec))
    return harness


async def change(harness: Harness, **spec: Any) -> None:
    body = copy.deepcopy(harness.server.objects[api.KIND, "team", "demo"])
    body["spec"] |= spec
    body["metadata"]["generation"] += 1
    harness.server.put(body)


async def test_dynamic_configs_are_set_and_looked_at_now_and_then() -> None:
    harness = a_harness()
    loop = await ready(harness)
    assert harness.kafka.described == 0, "there is nothing to ask"
    await change(harness, config={"log.retention.ms": "7200000"})
    for _ in range(4):
        await loop.one_pass()
    assert harness.kafka.shared_configs == {"log.retention.ms": "7200000"}
    assert harness.server.conditions()["ConfigApplied"] == ("True", "Settled")
    assert harness.server.status().dynamic_configs == ["log.retention.ms"]
    described, calls = harness.kafka.described, list(harness.kafka.calls)
    harness.kafka.shared_configs["log.retention.ms"] = "1"
    for _ in range(3):
        await loop.one_pass()
    assert harness.kafka.described == described, "a cluster at rest is left in peace"
    loop._kafka._configs_at -= ASKED_S
    for _ in range(3):
        await loop.one_pass()
    assert harness.kafka.shared_configs == {"log.retention.ms": "7200000"}
    assert harness.kafka.calls == [*calls, ("set configs", -1)]


async def test_brokers_that_do_not_say_what_is_set_are_no_reason_to_set_anything() -> None:
    harness = a_harness(config={"log.retention.ms": "7200000"})
    harness.kafka.fails = AdminFailed(status=0, message="no answer")
    loop = await ready(harness)
    for _ in range(3):
        await loop.one_pass()
    assert [call for call in harness.kafka.calls if call[0] == "set configs"] == []
    assert harness.server.conditions()["ConfigApplied"] == ("Unknown", "Unknown")


async def with_a_gone_broker() -> tuple[Harness, ClusterLoop]:
    harness = a_harness(replicas=2)
    loop = await ready(harness)
    address = harness.server.objects["Pod", "team", "demo-broker-1"]["status"]["podIP"]
    harness.kafka.known = {0: False, 1: False}
    harness.observer.answers[address] = Readyz(state="Serving", cluster_id="the-cluster-id", broker_epoch=17)
    await loop.one_pass()
    del harness.server.objects["Pod", "team", "demo-broker-1"]
    return harness, loop


async def turns() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_a_broker_whose_pod_is_gone_is_told_of_once_and_no_pass_waits_for_the_answer() -> None:
    harness, loop = await with_a_gone_broker()
    for _ in range(3):
        await loop.one_pass()
        await turns()
    assert harness.kafka.calls == [("end 17", 1)]
    assert [note.reason for note in harness.told if note.reason == "BrokerGone"] == ["BrokerGone"]
    harness.kafka.may_answer.set()
    await turns()
    await loop.one_pass()
    await turns()
    assert harness.kafka.calls == [("end 17", 1)], "the cluster knows"


async def test_a_broker_that_was_not_told_of_is_told_of_again() -> None:
    harness, loop = await with_a_gone_broker()
    harness.kafka.may_answer.set()
    harness.kafka.end_fails = AdminFailed(status=42, message="broker 1 is alive: stop it first")
    for _ in range(2):
        await loop.one_pass()
        await turns()
    assert harness.kafka.calls == [("end 17", 1), ("end 17", 1)]
    await loop._failover.close()


async def test_a_loop_that_ends_leaves_nobody_telling() -> None:
    harness, loop = await with_a_gone_broker()
    await loop.one_pass()
    await turns()
    (task,) = loop._failover._tasks.values()
    await loop._failover.close()
    assert task.cancelled()


async def test_a_setting_that_is_refused_is_asked_for_once_and_said_for_as_long_as_it_stands() -> None:
    harness = a_harness()
    loop = await ready(harness)
    await change(harness, config={"log.retention.ms": "-5"})
    harness.kafka.set_fails = AdminFailed(status=42, message="INVALID_REQUEST: Invalid value -5")
    said = []
    for _ in range(12):
        await loop.one_pass()
        said.append(harness.server.conditions()["ConfigApplied"])
    assert said[3:] == [("False", "Refused")] * 9
    assert harness.kafka.calls == [("set configs", -1)]
    assert len([note for note in harness.told if note.reason == "Refused"]) == 1
    writes = harness.server.writes
    for _ in range(3):
        await loop.one_pass()
    assert harness.server.writes == writes
    harness.kafka.set_fails = None
    await change(harness, config={"log.retention.ms": "5"})
    for _ in range(4):
        await loop.one_pass()
    assert harness.server.conditions()["ConfigApplied"] == ("True", "Settled")
