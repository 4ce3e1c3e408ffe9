"""What is observed: a broker's word over a real socket, nodes that a cache lacks, ages by the operator's own clock."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, cast

import aiohttp
import pytest
from aiohttp import web

from automq_operator import naming, observer
from automq_operator.api_server import ApiError, ApiServer
from automq_operator.cache import Cache
from automq_operator.incarnations import GONE_S
from automq_operator.observed import Observed, Readyz
from automq_operator.observer import Observer
from tests.support.api_server_double import Harness, MemoryServer, a_pod, a_resource

STATEFUL_SET = {
    "kind": "StatefulSet",
    "metadata": {"name": "demo-broker", "namespace": "team", "uid": "set"},
    "spec": {
        "template": {
            "metadata": {"labels": {naming.CLUSTER_LABEL: "demo"}, "annotations": {naming.HASH_ANNOTATION: "h"}},
            "spec": {"containers": []},
        }
    },
}


@asynccontextmanager
async def asked(
    handler: Callable[[web.Request], Awaitable[web.StreamResponse]], monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Observer]:
    application = web.Application()
    application.router.add_get("/readyz", handler)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    monkeypatch.setattr(naming, "HTTP_PORT", runner.addresses[0][1])
    async with aiohttp.ClientSession() as session:
        yield Observer(Cache(), cast(ApiServer, MemoryServer()), session)
    await runner.cleanup()


async def test_a_brokers_word_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(status=503)
        await response.prepare(request)
        for piece in (b'{"state":"Waiting",', b'"reason":"BucketNotFound","unknown":{}}'):
            await response.write(piece)
            await asyncio.sleep(0.05)
        return response

    async with asked(handler, monkeypatch) as looking:
        assert await looking.readyz("127.0.0.1") == Readyz(state="Waiting", reason="BucketNotFound")


@pytest.mark.parametrize("body", ["", "<html>404</html>", "[]", "7", '{"state": 7}', '{"state":', "x" * 100_000])
async def test_an_answer_that_is_no_brokers_is_none(monkeypatch: pytest.MonkeyPatch, body: str) -> None:
    async def handler(_: web.Request) -> web.StreamResponse:
        return web.Response(text=body)

    async with asked(handler, monkeypatch) as looking:
        assert await looking.readyz("127.0.0.1") is None


async def test_a_broker_that_hangs_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    async def handler(_: web.Request) -> web.StreamResponse:
        await asyncio.sleep(3600)
        return web.Response()

    monkeypatch.setattr(observer, "READYZ_TIMEOUT_S", 0.1)
    async with asked(handler, monkeypatch) as looking:
        assert await looking.readyz("127.0.0.1") is None
        assert await looking.readyz("127.0.0.2") is None


def a_harness() -> Harness:
    harness = Harness()
    harness.server.put(a_resource())
    harness.server.put(dict(STATEFUL_SET))
    harness.server.put(a_pod("demo-broker-0", STATEFUL_SET))
    return harness


async def look(harness: Harness) -> Observed:
    return await harness.observer.observe("team", "demo")


async def test_finding_08_a_node_that_the_cache_lacks_is_asked_for_by_name() -> None:
    harness = a_harness()
    assert (await look(harness)).nodes == {"node1": None}
    assert harness.server.calls == ["get Node/node1"]
    await look(harness)
    assert harness.server.calls == ["get Node/node1"], "and not at every look"


async def test_finding_08_a_node_that_is_there_after_all_or_cannot_be_asked_for_is_not_gone() -> None:
    harness = a_harness()
    harness.watches.lose()
    harness.server.nodes("node1")
    assert (await look(harness)).nodes == {}
    harness = a_harness()
    harness.server.refuses["get", "Node"] = ApiError(status=403, message="forbidden", what="get")
    assert (await look(harness)).nodes == {}


async def test_finding_08_ages_are_the_operators_own(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [1000.0]
    monkeypatch.setattr(observer.runtime, "monotonic", lambda: clock[0])
    harness = a_harness()
    harness.server.nodes("node1", ready=False)
    harness.server.nodes("node2")
    harness.observer.answers["demo-broker-0"] = None
    await look(harness)
    clock[0] += 7.0
    seen = await look(harness)
    node = seen.nodes["node1"]
    assert node is not None
    assert node.not_ready_s == 7.0
    (pod,) = seen.pods
    assert (pod.asked, pod.readyz, pod.silent_s, pod.seen_s) == (True, None, 7.0, 7.0)
    harness.server.nodes("node1")
    harness.observer.nodes_changed()
    del harness.observer.answers["demo-broker-0"]
    seen = await look(harness)
    node, (pod,) = seen.nodes["node1"], seen.pods
    assert node is not None
    assert (node.not_ready_s, pod.silent_s) == (0.0, 0.0)


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ({"waiting": {"reason": "CrashLoopBackOff"}}, None),
        ({"terminated": {"exitCode": 137, "reason": "OOMKilled"}}, ("Unknown", "exit code 137, OOMKilled")),
        ({"terminated": {"message": 'line\n{"reason":"Fenced","message":"newer"}'}}, ("Fenced", "newer")),
        ({"terminated": {"exitCode": 1, "message": "[1]"}}, ("Unknown", "exit code 1, no reason given")),
    ],
)
async def test_last_words(state: dict[str, Any], words: tuple[str, str] | None) -> None:
    harness = a_harness()
    container = {"name": "broker", "state": state}
    harness.server.put(a_pod("demo-broker-0", STATEFUL_SET, containerStatuses=[container]))
    (pod,) = (await look(harness)).pods
    assert (pod.last_words, pod.asked, pod.running) == (words, False, False)


async def test_finding_12_only_pods_of_the_stateful_set_are_looked_at() -> None:
    harness = a_harness()
    stranger = a_pod("debug-copy", STATEFUL_SET)
    stranger["metadata"]["ownerReferences"] = []
    harness.server.put(stranger)
    assert [pod.name for pod in (await look(harness)).pods] == ["demo-broker-0"]


EPOCH = Readyz(state="Serving", node_id=0, broker_epoch=17)


def _with_a_pod() -> tuple[Harness, dict[str, Any]]:
    harness = Harness()
    harness.server.put(a_resource())
    harness.server.nodes("node1")
    pod = harness.server.put(a_pod("demo-broker-0", STATEFUL_SET))
    harness.observer.answers[pod["status"]["podIP"]] = EPOCH
    return harness, pod


async def test_a_pod_that_was_deleted_is_gone_with_its_broker() -> None:
    harness, pod = _with_a_pod()
    assert (await harness.observer.observe("team", "demo")).gone == ()
    del harness.server.objects["Pod", "team", "demo-broker-0"]
    (gone,) = (await harness.observer.observe("team", "demo")).gone
    assert (gone.pod, gone.uid, gone.broker, gone.epoch) == ("demo-broker-0", pod["metadata"]["uid"], 0, 17)
    harness.observer.ended_gone("team", "demo", gone.uid)
    assert (await harness.observer.observe("team", "demo")).gone == ()


async def test_a_pod_of_its_name_with_another_uid_is_another() -> None:
    harness, pod = _with_a_pod()
    await harness.observer.observe("team", "demo")
    successor = a_pod("demo-broker-0", STATEFUL_SET)
    successor["metadata"]["uid"] = "another"
    harness.server.put(successor)
    harness.observer.answers[pod["status"]["podIP"]] = None
    (gone,) = (await harness.observer.observe("team", "demo")).gone
    assert gone.uid == pod["metadata"]["uid"] != "another"


async def test_a_pod_that_a_cache_lacks_is_not_gone_for_that() -> None:
    harness, _ = _with_a_pod()
    await harness.observer.observe("team", "demo")
    live = harness.server.objects.pop(("Pod", "team", "demo-broker-0"))
    harness.watches.lose()
    harness.server.objects["Pod", "team", "demo-broker-0"] = live
    assert (await harness.observer.observe("team", "demo")).gone == ()
    del harness.server.objects["Pod", "team", "demo-broker-0"]
    harness.server.refuses["get", "Pod"] = ApiError(status=0, message="no answer", what="GET")
    assert (await harness.observer.observe("team", "demo")).gone == (), "no answer is no word"
    harness.server.refuses.clear()
    assert len((await harness.observer.observe("team", "demo")).gone) == 1


async def test_a_silent_pod_on_a_node_whose_object_is_gone_is_gone_and_one_that_answers_is_not() -> None:
    harness, pod = _with_a_pod()
    await harness.observer.observe("team", "demo")
    del harness.server.objects["Node", "", "node1"]
    harness.observer.nodes_changed()
    assert (await harness.observer.observe("team", "demo")).gone == ()
    harness.observer.answers[pod["status"]["podIP"]] = None
    assert [gone.epoch for gone in (await harness.observer.observe("team", "demo")).gone] == [17]


async def test_a_node_that_is_not_ready_is_no_end_of_its_pod() -> None:
    harness, pod = _with_a_pod()
    await harness.observer.observe("team", "demo")
    harness.server.nodes("node1", ready=False)
    harness.observer.nodes_changed()
    harness.observer.answers[pod["status"]["podIP"]] = None
    assert (await harness.observer.observe("team", "demo")).gone == ()


async def test_what_is_gone_is_remembered_for_a_while_only(monkeypatch: pytest.MonkeyPatch) -> None:
    harness, _ = _with_a_pod()
    await harness.observer.observe("team", "demo")
    del harness.server.objects["Pod", "team", "demo-broker-0"]
    assert len((await harness.observer.observe("team", "demo")).gone) == 1
    later = observer.runtime.monotonic() + GONE_S
    monkeypatch.setattr(observer.runtime, "monotonic", lambda: later)
    assert (await harness.observer.observe("team", "demo")).gone == ()
