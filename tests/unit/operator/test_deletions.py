"""The shell of deletions: refusals come back, Events are told once, the status is written before the finalizer goes."""

from collections.abc import Mapping
from typing import Any, cast

import pytest

from automq_operator import naming, runtime
from automq_operator.api_server import ApiError, ApiServer
from automq_operator.cluster import Cluster
from automq_operator.deletions import Deletions
from automq_operator.observed import ObjectKey, Observed, Refusal
from automq_operator.observer import Observer
from automq_operator.plan import Limits, Note

UID = "11111111-2222-3333-4444-555555555555"
JOB = ("Job", naming.erase_job("demo", UID))


class Server:
    """One resource that is being deleted, and whatever is applied."""

    def __init__(self, policy: str = "Delete", **spec: Any) -> None:
        now = runtime.rfc3339(runtime.wall_time())
        self.body: dict[str, Any] = {
            "metadata": {"name": "demo", "namespace": "team", "uid": UID, "deletionTimestamp": now},
            "spec": {"storage": {"bucket": "demo-kafka", "deletionPolicy": policy}, **spec},
            "status": {"clusterId": "the-cluster-id"},
        }
        self.objects: dict[ObjectKey, dict[str, Any]] = {}
        self.refuses: dict[str, ApiError] = {}
        self.calls: list[str] = []

    async def get(self, kind: str, namespace: str, name: str) -> Mapping[str, Any] | None:
        return self.body

    async def apply(self, manifest: Mapping[str, Any]) -> None:
        self.calls.append(f"apply {manifest['kind']}")
        if manifest["kind"] in self.refuses:
            raise self.refuses[manifest["kind"]]
        key = (manifest["kind"], manifest["metadata"]["name"])
        self.objects[key] = {**manifest, "metadata": {**manifest["metadata"], "uid": f"uid of {key}"}}

    async def delete(self, kind: str, namespace: str, name: str, **_: Any) -> None:
        self.calls.append(f"delete {kind}")
        if kind in self.refuses:
            raise self.refuses[kind]
        self.objects.pop((kind, name), None)

    async def write_status(self, namespace: str, name: str, status: Mapping[str, Any]) -> None:
        self.calls.append("status")
        self.body["status"] = status

    async def observe(self, cluster: Cluster, refused: Mapping[ObjectKey, Refusal]) -> Observed:
        return Observed(objects=dict(self.objects), refused=dict(refused))

    def ready(self) -> tuple[str, str]:
        conditions = {item["type"]: item for item in self.body["status"]["conditions"]}
        return conditions["Ready"]["reason"], conditions["Ready"]["message"]


class Run:
    def __init__(self, server: Server, limits: Limits | None = None) -> None:
        self.told: list[str] = []

        def tell(body: Mapping[str, Any], note: Note) -> None:
            self.told.append(note.reason)

        self.deletions = Deletions(
            cast(ApiServer, server),
            cast(Observer, server),
            tell,
            default_image="automq:1",
            limits=limits or Limits(),
        )

    async def step(self) -> bool:
        return await self.deletions.step("team", "demo", UID)


async def test_retain_ends_with_no_request_but_one() -> None:
    server = Server("Retain")
    assert await Run(server).step()
    assert server.calls == []


async def test_op3_a_resource_that_cannot_be_read_ends_at_its_limit() -> None:
    server = Server(listeners="not a list")
    assert not await Run(server).step()
    assert await Run(server, Limits(erase_s=-1.0)).step()
    assert server.ready()[0] == "DataLeftBehind"


async def test_op13_terminating_namespace_ends_with_the_second_look_and_the_status_first() -> None:
    server, message = Server(), "unable to create new content in namespace team because it is being terminated"
    server.refuses["Job"] = ApiError(status=403, message=message, what="apply")
    run = Run(server)
    assert not await run.step()
    server.calls.clear()
    assert await run.step()
    assert server.calls == ["status"]
    assert server.ready()[0] == "DataLeftBehind"
    assert "its namespace is being deleted" in server.ready()[1]


async def test_op13_erasing_is_told_once_and_shown_all_the_time() -> None:
    server = Server()
    run = Run(server)
    for _ in range(5):
        assert not await run.step()
    assert run.told == ["Erasing"]
    assert server.ready()[0] == "Erasing"
    assert server.calls.count("status") == 1
    server.objects[JOB]["status"] = {"conditions": [{"type": "Complete", "status": "True"}]}
    assert await run.step()
    assert run.told == ["Erasing", "Erased"]
    assert JOB not in server.objects


async def test_op2_what_the_api_server_does_not_do_keeps_the_finalizer_and_is_said() -> None:
    server = Server()
    run = Run(server)
    await run.step()
    server.objects[JOB]["status"] = {"conditions": [{"type": "Complete", "status": "True"}]}
    server.refuses["Job"] = ApiError(status=500, message="etcd is slow", what="delete")
    assert not await run.step()
    del server.refuses["Job"]
    assert await run.step()
    assert run.told == ["Erasing", "Erased"]


async def test_op13_policy_may_still_become_retain() -> None:
    server = Server()
    run = Run(server)
    assert not await run.step()
    server.body["spec"]["storage"]["deletionPolicy"] = "Retain"
    assert await run.step()


async def test_another_resource_of_the_name_is_not_touched() -> None:
    server = Server()
    server.body["metadata"]["uid"] = "another"
    assert await Run(server).step()
    assert server.calls == []


async def test_an_unreachable_api_server_is_the_callers_affair() -> None:
    class Away(Server):
        async def get(self, kind: str, namespace: str, name: str) -> Mapping[str, Any] | None:
            raise ApiError(status=0, message="connection refused", what="get")

    with pytest.raises(ApiError):
        await Run(Away()).step()
