"""Topics as resources: what is asked of the cluster, what is said, and what is left alone."""

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from automq_operator import naming
from automq_operator.kafka_admin import AdminFailed
from automq_operator.topic_loop import AGAIN_FIRST_S, RESYNC_S, TopicLoop
from automq_operator.topics import api as topic_api
from automq_operator.topics.plan import Found, Work, work
from tests.support.api_server_double import Harness, a_resource, ending

Key = tuple[str, str]


class MemoryTopics:
    """The verbs of `TopicAdmin` over topics in memory."""

    def __init__(self) -> None:
        self.topics: dict[str, Found] = {}
        self.fails: AdminFailed | None = None
        self.calls: list[str] = []

    def _call(self, verb: str) -> None:
        self.calls.append(verb)
        if self.fails is not None:
            raise self.fails

    async def find(self, through: Sequence[Any], name: str) -> Found | None:
        self._call("find")
        return self.topics.get(name)

    async def create(self, through: Sequence[Any], name: str, *, partitions: int, configs: Mapping[str, str]) -> None:
        self._call("create")
        self.topics.setdefault(name, Found(partitions=partitions, configs=dict(configs)))

    async def add_partitions(self, through: Sequence[Any], name: str, *, total: int) -> None:
        self._call("add")
        self.topics[name] = Found(partitions=total, configs=self.topics[name].configs)

    async def configure(
        self, through: Sequence[Any], name: str, *, set: Mapping[str, str], reset: Sequence[str]
    ) -> None:
        self._call("configure")
        kept = {key: value for key, value in self.topics[name].configs.items() if key not in reset}
        self.topics[name] = Found(partitions=self.topics[name].partitions, configs={**kept, **set})

    async def delete(self, through: Sequence[Any], name: str) -> None:
        self._call("delete")
        self.topics.pop(name, None)


class World:
    def __init__(self, *, pod_ready: bool = True, **spec: Any) -> None:
        self.harness = Harness()
        self.server = self.harness.server
        self.server.put(a_resource())
        self.pod(ready=pod_ready)
        self.put(**spec)
        self.admin = MemoryTopics()
        self.loop = self.a_loop("orders")

    def a_loop(self, name: str) -> TopicLoop:
        loop = TopicLoop(self.harness.tools, "team", name)
        loop._admin = self.admin  # type: ignore[assignment]
        return loop

    def pod(self, *, ready: bool) -> None:
        conditions = [{"type": "Ready", "status": "True" if ready else "False"}]
        metadata = {"name": "demo-broker-0", "namespace": "team", "labels": naming.broker_labels("demo")}
        self.server.put({"kind": "Pod", "metadata": metadata, "status": {"conditions": conditions, "podIP": "1.2.3.4"}})

    def put(self, name: str = "orders", created: str = "2026-01-01T00:00:00Z", **spec: Any) -> None:
        before = self.server.objects.get((topic_api.KIND, "team", name))
        self.server.put(
            {
                "apiVersion": "automq.io/v1alpha1",
                "kind": topic_api.KIND,
                "metadata": {
                    "name": name,
                    "namespace": "team",
                    "uid": f"uid-of-{name}",
                    "generation": before["metadata"]["generation"] + 1 if before else 1,
                    "creationTimestamp": created,
                },
                "spec": {"cluster": "demo", **spec},
                **({"status": before["status"]} if before and "status" in before else {}),
            }
        )

    def remove(self) -> None:
        """The resource is gone, and the watch has shown it."""
        gone = self.server.objects.pop((topic_api.KIND, "team", "orders"))
        self.harness.cache.deleted(topic_api.KIND, "team", "orders", gone["metadata"]["uid"])

    @property
    def said(self) -> tuple[str, str]:
        (found,) = self.status["conditions"]
        return found["status"], found["reason"]

    @property
    def status(self) -> Any:
        return self.server.objects[topic_api.KIND, "team", "orders"]["status"]


async def test_a_topic_is_made_as_it_is_written_and_then_left_alone() -> None:
    world = World(partitions=3, configs={"retention.ms": "1000"})
    assert await world.loop.one_pass() == RESYNC_S
    assert world.admin.topics == {"orders": Found(partitions=3, configs={"retention.ms": "1000"})}
    assert world.said == ("True", "Settled")
    writes = world.server.writes
    world.admin.calls.clear()
    await world.loop.one_pass()
    assert (world.admin.calls, world.server.writes) == (["find"], writes)


async def test_a_name_of_its_own_is_the_topics() -> None:
    world = World(topicName="Orders_V2")
    await world.loop.one_pass()
    assert set(world.admin.topics) == {"Orders_V2"}
    assert world.status["topicName"] == "Orders_V2"


async def test_what_others_changed_is_corrected_and_what_they_added_is_theirs() -> None:
    world = World(partitions=3, configs={"retention.ms": "1000"})
    await world.loop.one_pass()
    world.admin.topics["orders"] = Found(partitions=3, configs={"retention.ms": "5", "segment.ms": "7"})
    await world.loop.one_pass()
    assert world.admin.topics["orders"].configs == {"retention.ms": "1000", "segment.ms": "7"}


async def test_a_config_that_is_taken_out_gets_its_default_again() -> None:
    world = World(configs={"retention.ms": "1000", "segment.ms": "7"})
    await world.loop.one_pass()
    world.put(configs={"segment.ms": "7"})
    await world.loop.one_pass()
    assert world.admin.topics["orders"].configs == {"segment.ms": "7"}
    assert world.status["configs"] == ["segment.ms"]


async def test_partitions_are_added_and_never_taken_away() -> None:
    world = World(partitions=3)
    await world.loop.one_pass()
    world.put(partitions=6)
    await world.loop.one_pass()
    assert world.admin.topics["orders"].partitions == 6
    world.put(partitions=2)
    await world.loop.one_pass()
    assert world.admin.topics["orders"].partitions == 6
    assert world.said == ("False", "CannotShrink")
    assert [note.reason for note in world.harness.told] == ["CannotShrink"]


async def test_a_topic_that_was_there_is_taken_over_as_it_is() -> None:
    world = World(partitions=3, configs={"retention.ms": "1000"})
    world.admin.topics["orders"] = Found(partitions=8, configs={"cleanup.policy": "compact"})
    await world.loop.one_pass()
    assert world.admin.topics["orders"] == Found(
        partitions=8, configs={"cleanup.policy": "compact", "retention.ms": "1000"}
    )


async def test_a_refusal_is_told_once_in_the_clusters_words_and_tried_less_and_less() -> None:
    world = World(configs={"no.such.config": "1"})
    world.admin.fails = AdminFailed(status=40, message="INVALID_CONFIG: no.such.config is unknown")
    delays = [await world.loop.one_pass() for _ in range(3)]
    assert delays == [AGAIN_FIRST_S, 2 * AGAIN_FIRST_S, 4 * AGAIN_FIRST_S]
    assert world.said == ("False", "Refused")
    assert len(world.harness.told) == 1
    world.admin.fails = None
    assert await world.loop.one_pass() == RESYNC_S
    assert world.said == ("True", "Settled")


async def test_silence_is_unknown_and_not_wrong() -> None:
    world = World()
    world.admin.fails = AdminFailed(status=0, message="nobody answered")
    await world.loop.one_pass()
    assert world.said == ("Unknown", "Unreachable")


async def test_it_waits_for_its_cluster_and_goes_on_when_a_broker_is_ready() -> None:
    world = World(pod_ready=False)
    await world.loop.one_pass()
    assert world.said == ("Unknown", "ClusterNotReady")
    assert world.admin.calls == []
    world.loop.pod_changed("team", "another")
    assert not world.loop._nudge.is_set()
    world.pod(ready=True)
    world.loop.pod_changed("team", "demo")
    assert world.loop._nudge.is_set()
    await world.loop.one_pass()
    assert world.said == ("True", "Settled")


async def test_of_two_resources_for_one_topic_the_older_counts() -> None:
    world = World(created="2026-01-02T00:00:00Z", partitions=9)
    world.put(name="older", topicName="orders", partitions=2)
    await world.loop.one_pass()
    assert world.said == ("False", "NameConflict")
    assert world.admin.calls == []


@pytest.mark.parametrize(("policy", "left"), [("Retain", {"orders"}), ("Delete", set())])
async def test_the_policy_says_what_becomes_of_the_topic(policy: str, left: set[str]) -> None:
    world = World(deletionPolicy=policy)
    await world.loop.one_pass()
    body = world.server.objects[topic_api.KIND, "team", "orders"]
    assert not body["metadata"].get("finalizers")
    world.remove()
    assert await world.loop.one_pass() is None
    assert set(world.admin.topics) == left


async def test_a_topic_that_another_resource_holds_is_not_deleted() -> None:
    world = World(deletionPolicy="Delete")
    await world.loop.one_pass()
    world.put(name="younger", topicName="orders", created="2026-02-01T00:00:00Z")
    world.remove()
    assert await world.loop.one_pass() is None
    assert set(world.admin.topics) == {"orders"}


async def test_a_topic_that_cannot_be_deleted_is_told_and_holds_nobody_up() -> None:
    world = World(deletionPolicy="Delete")
    await world.loop.one_pass()
    world.admin.fails = AdminFailed(status=0, message="nobody answered")
    world.remove()
    assert await world.loop.one_pass() is None
    assert [note.reason for note in world.harness.told] == ["TopicLeftBehind"]


async def test_a_resource_that_ends_or_cannot_be_read_changes_nothing() -> None:
    world = World()
    world.server.put(ending(world.server.objects[topic_api.KIND, "team", "orders"]))
    await world.loop.one_pass()
    world.put(partitions="many")
    await world.loop.one_pass()
    assert world.admin.calls == []


async def test_a_replica_that_leads_no_longer_changes_no_topic() -> None:
    world = World()
    world.server.fenced = True
    assert await world.loop._guarded_pass() == AGAIN_FIRST_S
    assert world.admin.topics == {}


async def test_a_bug_ends_no_loop() -> None:
    world = World()
    world.admin.find = None  # type: ignore[assignment]
    assert await world.loop._guarded_pass() == AGAIN_FIRST_S


def test_nothing_is_asked_for_a_topic_that_is_as_it_should_be() -> None:
    topic = topic_api.parse(
        {"metadata": {"name": "a", "namespace": "n", "uid": "u"}, "spec": {"cluster": "demo", "configs": {"a": "1"}}}
    )
    assert work(topic, Found(partitions=1, configs={"a": "1"})).is_nothing
    assert work(topic, None) == Work(create=True)
