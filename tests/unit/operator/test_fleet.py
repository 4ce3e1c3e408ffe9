"""Turns of an upgrade, and the budget of forced replacements, over all clusters of an operator."""

import dataclasses

from automq_operator.cluster import Cluster
from automq_operator.fleet import REPLACED_MAX, REPLACED_S, WELL_S, Fleet
from automq_operator.plan import Plan
from automq_operator.reconcile import reconcile
from tests.support.kubernetes_double import World, a_cluster
from tests.support.planner import LIMITS, NOW, converge

Key = tuple[str, str]


class Operator:
    """Several clusters, each in its own world, under one fleet."""

    def __init__(self, names: str, *, default_image: str = "automq:2") -> None:
        self.now = 0.0
        self.fleet = Fleet(default_image=default_image, now=self.now)
        self.worlds = {("team", name): World() for name in names}
        self.clusters: dict[Key, Cluster] = {}
        self.plans: dict[Key, Plan] = {}
        for key, world in self.worlds.items():
            settled = converge(a_cluster(), world)
            self.clusters[key] = dataclasses.replace(settled, default_image=default_image)
            self.fleet.join(key)

    def run(self, seconds: float) -> list[tuple[float, str]]:
        """(when, cluster) of each pod that is deleted."""
        deleted = []
        for _ in range(int(seconds)):
            self.now += 1.0
            for key, world in self.worlds.items():
                if key in self.clusters:
                    deleted += [(self.now, key[1]) for _ in range(self.one_pass(key, world))]
        return deleted

    def one_pass(self, key: Key, world: World) -> int:
        world.now = self.now
        before = len(world.deleted_pods)
        permits = self.fleet.permits(key, self.now)
        plan = reconcile(self.clusters[key], world.observed(), now=NOW, limits=LIMITS, permits=permits)
        for action in plan.actions:
            world.carry_out(action)
        forced = any(getattr(action, "force", False) for action in plan.actions)
        self.fleet.report(key, plan, permits, replaced=forced, now=self.now)
        world.settle(self.clusters[key])
        self.clusters[key] = dataclasses.replace(self.clusters[key], status=plan.status)
        self.plans[key] = plan
        return len(world.deleted_pods) - before


def test_finding_09_an_upgrade_moves_one_cluster_after_the_other() -> None:
    operator = Operator("abc")
    deleted = operator.run(WELL_S * 6)
    assert [name for _, name in deleted] == ["a", "b", "c"]
    assert all(later - earlier >= WELL_S for (earlier, _), (later, _) in zip(deleted, deleted[1:], strict=False))
    assert deleted[0][0] >= WELL_S, "an operator that has just begun has seen nothing yet"
    assert all(not plan.pending for plan in operator.plans.values())
    assert operator.run(WELL_S * 3) == []


def test_finding_09_a_bad_image_stops_at_the_first() -> None:
    operator = Operator("abc", default_image="automq:bad")
    for world in operator.worlds.values():
        world.unavailable_images.add("automq:bad")
    assert [name for _, name in operator.run(WELL_S * 10)] == ["a"]
    conditions = {item.type: item for item in operator.plans["team", "c"].status.conditions}
    assert conditions["Progressing"].reason == "UpgradePending"
    assert "team/a" in conditions["Progressing"].message


def test_finding_09_a_restarted_operator_waits_for_the_one_that_was_moved() -> None:
    operator = Operator("abc")
    assert [name for _, name in operator.run(WELL_S + 5)] == ["a"]
    operator.worlds["team", "a"].change_pod("demo-broker-0", ready=False, readyz=None)
    operator.fleet = Fleet(default_image="automq:2", now=operator.now)
    assert operator.run(WELL_S * 4) == [], "what it moved before its restart is not well"
    operator.worlds["team", "a"].change_pod("demo-broker-0", ready=True)
    assert [name for _, name in operator.run(WELL_S * 4)] == ["b", "c"]


def test_finding_09_a_broken_cluster_goes_last_and_holds_nobody() -> None:
    operator = Operator("abc")
    world = operator.worlds["team", "a"]
    world.change_pod("demo-broker-0", ready=False, readyz=None)
    assert [name for _, name in operator.run(WELL_S * 6)] == ["b", "c", "a"]


def test_finding_09_an_unreadable_cluster_holds_nobody() -> None:
    operator = Operator("abc")
    del operator.clusters["team", "a"]
    operator.fleet.failed(("team", "a"))
    assert [name for _, name in operator.run(WELL_S * 6)] == ["b", "c"]


def test_finding_09_nobody_moves_before_every_cluster_was_looked_at() -> None:
    operator = Operator("abc")
    missing = operator.clusters.pop(("team", "c"))
    assert operator.run(WELL_S * 3) == []
    operator.clusters["team", "c"] = missing
    assert [name for _, name in operator.run(4)] == ["a"]


def test_finding_09_a_deleted_cluster_passes_its_turn_on() -> None:
    operator = Operator("ab", default_image="automq:bad")
    for world in operator.worlds.values():
        world.unavailable_images.add("automq:bad")
    operator.run(WELL_S * 2)
    del operator.clusters["team", "a"]
    operator.fleet.leave(("team", "a"))
    assert [name for _, name in operator.run(WELL_S)] == ["b"]


def test_finding_09_a_paused_cluster_is_not_moved_and_holds_nobody() -> None:
    operator = Operator("ab")
    cluster = operator.clusters["team", "a"]
    paused = dataclasses.replace(a_cluster(paused=True), status=cluster.status, default_image="automq:2")
    operator.clusters["team", "a"] = paused
    assert [name for _, name in operator.run(WELL_S * 4)] == ["b"]


def test_finding_09_a_pinned_cluster_stays() -> None:
    operator = Operator("ab")
    for key, world in operator.worlds.items():
        pinned = converge(a_cluster(image="automq:1"), world)
        operator.clusters[key] = dataclasses.replace(pinned, default_image="automq:2")
    for world in operator.worlds.values():
        world.deleted_pods.clear()
    assert operator.run(WELL_S * 4) == []


def test_new_clusters_wait_for_nobody() -> None:
    operator = Operator("a")
    operator.worlds["team", "new"] = World()
    operator.clusters["team", "new"] = a_cluster(default_image="automq:2")
    operator.run(4)
    assert operator.plans["team", "new"].status.ready == "1/1"


def test_finding_08_forced_replacements_are_few_at_a_time() -> None:
    operator = Operator("abcdef", default_image="automq:1")
    for world in operator.worlds.values():
        world.lose_node("node1")
        world.silent.add("demo-broker-0")
        world.settle = lambda _: None  # type: ignore[method-assign]
    deleted = operator.run(REPLACED_S)
    assert len(deleted) == REPLACED_MAX
    assert len(operator.run(REPLACED_S)) == REPLACED_MAX, "those that did not come back have had their time"
