"""Whatever happens around a cluster of three: nobody is taken away for a silence, never two, and all comes back."""

import dataclasses

from hypothesis import given, settings
from hypothesis import strategies as st

from automq_operator.cluster import Cluster
from automq_operator.observed import Node, Readyz
from automq_operator.plan import Limits
from tests.support.kubernetes_double import SERVING, World, a_cluster
from tests.support.planner import changed, converge, decide, one_pass, reasons

LIMITS = Limits()
BROKERS = st.integers(0, 2)
NODES = st.sampled_from(["node1", "node2", "node3", "node4", "node5"])
FAULTS = st.one_of(
    st.tuples(st.just("silence"), BROKERS),
    st.tuples(st.just("answer"), BROKERS),
    st.tuples(st.just("kubelet says not ready"), BROKERS),
    st.tuples(st.just("kubelet says ready"), BROKERS),
    st.tuples(st.just("store away"), BROKERS),
    st.tuples(st.just("crash"), BROKERS),
    st.tuples(st.just("node lost"), NODES),
    st.tuples(st.just("node back"), NODES),
    st.tuples(st.just("cordon"), NODES),
    st.tuples(st.just("lose watches"), st.none()),
    st.tuples(st.just("find watches"), st.none()),
    st.tuples(st.just("refuse"), st.sampled_from(["StatefulSet", "ConfigMap", "Service"])),
    st.tuples(st.just("accept"), st.none()),
    st.tuples(st.just("time"), st.integers(1, 90)),
)
CHANGES = st.tuples(st.just("change"), st.sampled_from("12"))
NAMES = {"StatefulSet": "demo-broker", "ConfigMap": "demo-config", "Service": "demo-kafka"}


class History:
    """One cluster of three brokers, and what happens to it."""

    def __init__(self) -> None:
        self.world = World()
        for name in ("node4", "node5"):
            self.world.nodes[name] = Node(name=name, ready=True)
        self.cluster: Cluster = converge(a_cluster(replicas=3), self.world)
        for number in range(3):
            self.world.change_pod(f"demo-broker-{number}", node=f"node{number + 1}")

    def happen(self, what: str, whom: object) -> None:
        world, name = self.world, f"demo-broker-{whom}"
        there = name in world.pods
        match what:
            case "silence":
                world.silent.add(name)
            case "answer":
                world.silent.discard(name)
            case "kubelet says not ready" | "kubelet says ready" if there:
                world.change_pod(name, ready=what.endswith("says ready"))
            case "store away" if there:
                said = Readyz(state="Waiting", reason="StoreUnreachable", message="no answer")
                world.change_pod(name, readyz=said, ready=False)
            case "crash" if there:
                world.change_pod(name, running=False, readyz=None, ready=False, last_words=("Unknown", "exit code 1"))
            case "node lost":
                world.lose_node(str(whom), for_s=0.0)
            case "node back":
                world.nodes[str(whom)] = dataclasses.replace(world.nodes[str(whom)], ready=True, schedulable=True)
            case "cordon":
                world.nodes[str(whom)] = dataclasses.replace(world.nodes[str(whom)], schedulable=False)
            case "lose watches":
                world.lose_watches()
            case "find watches":
                world.find_watches()
            case "refuse":
                world.refuses[str(whom), NAMES[str(whom)]] = (403, "exceeded quota")
            case "accept":
                world.refuses.clear()
                world.refused.clear()
            case "time":
                assert isinstance(whom, int)
                world.pass_time(whom)
            case "change":
                self.cluster = changed(self.cluster, replicas=3, config={"num.partitions": str(whom)})

    def one_pass(self) -> list[tuple[str, bool]]:
        """The pods that were deleted, each with whether by force."""
        before = set(self.world.pods)
        self.cluster, plan = one_pass(self.cluster, self.world)
        forced = {action.name: action.force for action in plan.actions if hasattr(action, "force")}
        assert len(forced) <= 1, "never two in one pass"
        return [(name, force) for name, force in forced.items() if name in before]

    def heal(self) -> None:
        world = self.world
        world.find_watches()
        world.silent.clear()
        world.refuses.clear()
        world.refused.clear()
        for name, node in world.nodes.items():
            world.nodes[name] = dataclasses.replace(node, ready=True, schedulable=True)
        for name in list(world.pods):
            node = world.pods[name].node or "node1"
            said = {"readyz": SERVING, "ready": True, "running": True, "last_words": None}
            world.change_pod(name, node=node, scheduled=True, waiting_reason=None, **said)


@settings(max_examples=120, deadline=None)
@given(faults=st.lists(FAULTS, max_size=14))
def test_without_a_change_only_a_lost_node_takes_a_broker_away(faults: list[tuple[str, object]]) -> None:
    history = History()
    for what, whom in faults:
        history.happen(what, whom)
        for _ in range(2):
            nodes = dict(history.world.nodes)
            pods = dict(history.world.pods)
            for name, force in history.one_pass():
                node = nodes[pods[name].node or ""]
                assert force, f"{name} was restarted and nothing was changed"
                lost = not node.ready or history.world._stale is not None
                assert lost, f"{name} was on a node that is ready"
                assert 2 * sum(not node.ready for node in nodes.values()) <= len(nodes) or history.world._stale
    history.heal()
    history.cluster = converge(history.cluster, history.world, 40)
    assert reasons(history.cluster)["Ready"] == ("True", "Serving")
    assert decide(history.cluster, history.world).actions == []


@settings(max_examples=120, deadline=None)
@given(steps=st.lists(st.one_of(FAULTS, CHANGES), max_size=14))
def test_a_change_takes_no_broker_away_while_another_is_out(steps: list[tuple[str, object]]) -> None:
    history = History()
    for what, whom in steps:
        history.happen(what, whom)
        for _ in range(3):
            serving = {broker.pod for broker in history.cluster.status.brokers if broker.state == "Serving"}
            fresh = history.world._stale is None
            before = dict(history.world.pods)
            for name, force in history.one_pass():
                others = [pod for other, pod in before.items() if other != name and other not in history.world.silent]
                if fresh and not force and before[name].ready and name in serving:
                    assert all(pod.ready for pod in others), f"{name} served and another did not"
    history.heal()
    history.cluster = converge(history.cluster, history.world, 40)
    assert reasons(history.cluster)["Ready"] == ("True", "Serving")
