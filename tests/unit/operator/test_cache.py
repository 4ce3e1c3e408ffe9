"""The cache: the watches' word, corrected by answers to our own writes and by lists."""

from typing import Any

import pytest

from automq_operator import naming
from automq_operator.cache import Cache, kept, version_of
from tests.support.api_server_double import MemoryServer, Watches


def pod(name: str, cluster: str = "demo") -> dict[str, Any]:
    return {"kind": "Pod", "metadata": {"name": name, "namespace": "team", "labels": {naming.CLUSTER_LABEL: cluster}}}


class World:
    def __init__(self) -> None:
        self.server = MemoryServer()
        self.watches = Watches(self.server)
        self.cache = Cache()
        self.cache.bind(self.watches)

    def names(self) -> list[str]:
        return [body["metadata"]["name"] for body in self.cache.pods("team", "demo")]

    async def list(self) -> int:
        known = self.cache.known("Pod")
        return self.cache.listed("Pod", await self.server.list("Pod", None), known=known)


def test_clusters_and_namespaces_are_told_apart() -> None:
    world = World()
    world.server.put(pod("a"))
    world.server.put(pod("b", "another"))
    other = pod("c")
    other["metadata"]["namespace"] = "elsewhere"
    world.server.put(other)
    assert world.names() == ["a"]


async def test_a_list_that_agrees_corrects_nothing() -> None:
    world = World()
    world.server.put(pod("a"))
    assert await world.list() == 0
    assert world.names() == ["a"]


async def test_an_end_that_the_watch_missed_is_found_by_a_list() -> None:
    world = World()
    world.server.put(pod("a"))
    world.watches.lose()
    world.server.objects.clear()
    assert world.names() == ["a"]
    assert await world.list() == 1
    assert world.names() == []
    assert await world.list() == 0, "and is no news again"


async def test_a_birth_and_a_change_that_the_watch_missed_are_found_by_a_list() -> None:
    world = World()
    world.server.put(pod("a"))
    world.watches.lose()
    world.server.put({**pod("a"), "status": {"podIP": "1"}})
    world.server.put(pod("b"))
    assert await world.list() == 3, "a is another object of its name"
    assert world.names() == ["a", "b"]
    world.watches.find()
    assert world.names() == ["a", "b"]


async def test_what_ends_while_a_list_is_under_way_does_not_come_back() -> None:
    world = World()
    known = world.cache.known("Pod")
    born = world.server.put(pod("a"))
    items = await world.server.list("Pod", None)
    world.server.objects.clear()
    world.cache.deleted("Pod", "team", "a", born["metadata"]["uid"])
    world.cache.listed("Pod", items, known=known)
    assert world.names() == []


async def test_what_is_born_while_a_list_is_under_way_is_not_taken_for_gone() -> None:
    world = World()
    known = world.cache.known("Pod")
    items = await world.server.list("Pod", None)
    world.server.put(pod("a"))
    world.cache.listed("Pod", items, known=known)
    assert world.names() == ["a"]


def test_our_own_write_is_shown_until_the_watch_has_it() -> None:
    world = World()
    old = world.server.put(pod("a"))
    world.watches.lose()
    new = {**pod("a"), "status": {"podIP": "1"}}
    new["metadata"]["uid"] = old["metadata"]["uid"]
    world.cache.wrote("Pod", world.server.put(new))
    (shown,) = world.cache.pods("team", "demo")
    assert shown["status"] == {"podIP": "1"}
    world.watches.find()
    newest = world.server.put({**new, "metadata": {**new["metadata"]}, "status": {"podIP": "2"}})
    (shown,) = world.cache.pods("team", "demo")
    assert version_of(shown) == version_of(newest)


@pytest.mark.parametrize("body", [{}, {"kind": "Status", "metadata": {}}, {"metadata": {"name": "x"}}])
def test_an_answer_that_is_no_object_says_nothing(body: dict[str, Any]) -> None:
    world = World()
    world.cache.wrote("Pod", body)
    assert world.names() == []


def test_managed_fields_of_others_are_not_kept() -> None:
    body = pod("a")
    body["metadata"]["managedFields"] = [{"manager": "kubelet"}, {"manager": naming.FIELD_MANAGER, "fieldsV1": {}}]
    assert len(kept("Pod", body)["metadata"]["managedFields"]) == 1
    assert len(body["metadata"]["managedFields"]) == 2


def test_a_node_is_kept_as_what_planners_look_at() -> None:
    taint = {"key": "node.kubernetes.io/unreachable", "effect": "NoExecute"}
    raw = {"metadata": {"name": "n", "labels": {"a": "b"}}, "spec": {"unschedulable": True, "taints": [taint]}}
    node = kept("Node", raw)
    assert (node.ready, node.schedulable, node.labels) == (False, False, {"a": "b"})
    assert node.taints[0].effect == "NoExecute"
