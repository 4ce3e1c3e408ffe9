"""kopf with our handlers against a Kubernetes API in memory: children appear, the finalizer comes and goes."""

import asyncio
import copy
import itertools
import json
from collections.abc import Callable
from typing import Any

import aiohttp
import kmock
import kopf
import pytest
from kmock._internal import enums
from kubernetes.aio import client

from automq_operator import api
from automq_operator.api_server import ApiServer
from automq_operator.handlers import Operator
from automq_operator.kinds import KINDS
from automq_operator.settings import OperatorSettings
from automq_operator.telemetry import Health

RESOURCE = f"{api.GROUP}/{api.VERSION}/{api.PLURAL}"
SETTINGS = OperatorSettings(
    default_image="automq:1", namespaces=(), own_namespace="system", identity="one", lease_name="lease", http_port=0,
    erase_s=1.0, node_lost_s=1.0,
)  # fmt: skip


class MemoryApi(kmock.KubernetesEmulator):
    """The emulator, with resource versions and with server-side apply that creates."""

    _versions = itertools.count(100)

    async def _handle(self, request: Any) -> Any:
        if request.resource is not None and request.action in (enums.action.UPDATE, enums.action.CREATE):
            version = str(next(self._versions))
            data = request.data
            if isinstance(data, list):
                # The emulator answers a failed test with 500, which kopf takes for an outage.
                data[:] = [operation for operation in data if operation["op"] != "test"]
                data.append({"op": "add", "path": "/metadata/resourceVersion", "value": version})
            elif isinstance(data, dict):
                data.setdefault("metadata", {})["resourceVersion"] = version
            content_type = request.headers.get("Content-Type") or request.headers.get("content-type") or ""
            if request.action == enums.action.UPDATE and "apply-patch" in content_type:
                key = (request.resource, request.namespace, request.name)
                if key not in self._objects:
                    made = copy.deepcopy(data) if isinstance(data, dict) else json.loads(request.body)
                    made["metadata"].setdefault("uid", f"uid-{version}")
                    self._objects[key] = made
        return await super()._handle(request)


# What kopf looks for beside our own kinds.
OTHERS = {
    "Event": ("/api/v1", "events"),
    "Namespace": ("/api/v1", "namespaces"),
    "CustomResourceDefinition": ("/apis/apiextensions.k8s.io/v1", "customresourcedefinitions"),
}
CLUSTER_SCOPED = ("Node", "Namespace", "CustomResourceDefinition")


def register(emulator: MemoryApi) -> None:
    ours = {kind: (place.path, place.plural) for kind, place in KINDS.items()}
    for kind, (path, plural) in {**ours, **OTHERS}.items():
        name = f"{path.removeprefix('/apis/').removeprefix('/api/')}/{plural}"
        emulator.resources[name] = {
            "kind": kind, "singular": kind.lower(), "namespaced": kind not in CLUSTER_SCOPED,
            "verbs": {"get", "list", "watch", "patch", "create", "delete"}, "subresources": {"status"},
        }  # fmt: skip


def names(emulator: MemoryApi) -> set[tuple[str, str]]:
    """(plural, name) of everything there is."""
    return {(resource.plural, name) for resource, _, name in emulator._objects}


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.05)


@pytest.mark.kmock(cls=MemoryApi)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize(("policy", "finalizers"), [("Retain", []), ("Delete", ["automq.io/finalizer"])])
async def test_cluster_gets_its_children_and_a_finalizer_only_with_delete(
    kmock: MemoryApi, policy: str, finalizers: list[str]
) -> None:
    register(kmock)
    configuration = client.Configuration()
    configuration.host = str(kmock.url).rstrip("/")
    server = ApiServer(client.ApiClient(configuration))
    stop = asyncio.Event()
    async with aiohttp.ClientSession() as session:
        health = Health()
        operator = Operator(SETTINGS, server, session, health)
        registry = operator.registry(login=lambda **_: kopf.ConnectionInfo(server=str(kmock.url)))
        body = {
            "apiVersion": f"{api.GROUP}/{api.VERSION}",
            "kind": api.KIND,
            "metadata": {"name": "demo", "namespace": "team", "uid": "u1", "resourceVersion": "1", "generation": 1},
            "spec": {"storage": {"bucket": "demo-kafka", "deletionPolicy": policy}},
        }
        kmock.objects[RESOURCE, "team", "demo"] = body
        running = asyncio.create_task(
            kopf.operator(registry=registry, clusterwide=True, standalone=True, stop_flag=stop)
        )
        try:
            await until(lambda: ("poddisruptionbudgets", "demo-broker") in names(kmock))
            live = kmock.objects[RESOURCE, "team", "demo"]
            assert list(live["metadata"].get("finalizers", [])) == finalizers
            await until(lambda: health.synced)
            made = kmock.objects["apps/v1/statefulsets", "team", "demo-broker"]
            assert made["metadata"]["ownerReferences"][0]["uid"] == "u1"
        finally:
            stop.set()
            await asyncio.wait_for(running, 20)
            await operator.close()
            assert operator._loops == {}
    await server.close()
