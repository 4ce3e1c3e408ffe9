"""Deletions in a cluster's loop: refusals come back, Events are told once, the status is written before the end."""

from typing import Any

import pytest

from automq_operator import api, naming
from automq_operator.api_server import ApiError
from automq_operator.loop import ClusterLoop
from automq_operator.plan import Limits
from tests.support.api_server_double import UID, Harness, a_resource, ending

JOB = ("Job", "team", naming.erase_job("demo", UID))
CR = (api.KIND, "team", "demo")


class Run:
    """One resource that is being deleted."""

    def __init__(self, policy: str = "Delete", *, limits: Limits | None = None, **spec: Any) -> None:
        self.harness = Harness(limits=limits)
        self.server = self.harness.server
        body = a_resource(storage={"deletionPolicy": policy}, **spec)
        body["metadata"]["finalizers"] = [naming.FINALIZER]
        body["status"] = {"clusterId": "the-cluster-id"}
        self.server.put(ending(body))
        self.loop: ClusterLoop = self.harness.loop()

    async def step(self) -> bool:
        """Whether the finalizer went."""
        await self.loop._guarded_pass()
        return CR not in self.server.objects

    def ready(self) -> tuple[str, str]:
        conditions = {item.type: item for item in self.server.status().conditions}
        return conditions["Ready"].reason, conditions["Ready"].message

    def told(self) -> list[str]:
        return [note.reason for note in self.harness.told]


async def test_retain_ends_with_no_request_but_one() -> None:
    run = Run("Retain")
    assert await run.step()
    assert run.server.calls == [f"finalizers {api.KIND}/demo"]


async def test_finding_03_a_resource_that_cannot_be_read_ends_at_its_limit() -> None:
    assert not await Run(listeners="not a list").step()
    assert await Run(listeners="not a list", limits=Limits(erase_s=-1.0)).step()


async def test_finding_03_a_bug_in_looking_does_not_outlast_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run()

    async def broken(*_: Any, **__: Any) -> Any:
        raise KeyError("what nobody foresaw")

    monkeypatch.setattr(run.harness.observer, "observe", broken)
    assert not await run.step()
    assert run.ready()[0] == "InternalError"
    object.__setattr__(run.harness.tools.limits, "erase_s", -1.0)
    assert await run.step()
    assert "DataLeftBehind" in run.told()


async def test_finding_13_terminating_namespace_ends_with_the_second_look_and_the_status_first() -> None:
    run, message = Run(), "unable to create new content in namespace team because it is being terminated"
    run.server.refuses["apply", "Job"] = ApiError(status=403, message=message, what="apply")
    assert not await run.step()
    run.server.calls.clear()
    assert await run.step()
    assert run.server.calls == [f"status {api.KIND}/demo", f"finalizers {api.KIND}/demo"]
    assert "DataLeftBehind" in run.told()


async def test_finding_13_erasing_is_told_once_and_shown_all_the_time() -> None:
    run = Run()
    for _ in range(5):
        assert not await run.step()
    assert run.told() == ["Erasing"]
    assert run.ready()[0] == "Erasing"
    assert run.server.calls.count(f"status {api.KIND}/demo") == 1
    run.server.objects[JOB]["status"] = {"conditions": [{"type": "Complete", "status": "True"}]}
    run.server.put(run.server.objects[JOB])
    assert await run.step()
    assert run.told() == ["Erasing", "Erased"]
    assert JOB not in run.server.objects


async def test_finding_13_a_watch_that_is_late_does_not_begin_the_erasing_anew() -> None:
    run = Run()
    await run.step()
    await run.step()
    run.server.objects[JOB]["status"] = {"conditions": [{"type": "Complete", "status": "True"}]}
    run.server.put(run.server.objects[JOB])
    uid = run.server.objects[JOB]["metadata"]["uid"]
    run.harness.watches.lose()
    assert await run.step()
    run.harness.cache.deleted(*JOB, uid=uid)  # the watch of Jobs is faster than that of the resource
    for _ in range(3):
        assert await run.step()
    assert JOB not in run.server.objects
    assert run.told() == ["Erasing", "Erased"]


async def test_finding_02_what_the_api_server_does_not_do_keeps_the_finalizer_and_is_said() -> None:
    run = Run()
    await run.step()
    await run.step()
    run.server.objects[JOB]["status"] = {"conditions": [{"type": "Complete", "status": "True"}]}
    run.server.put(run.server.objects[JOB])
    run.server.refuses["delete", "Job"] = ApiError(status=500, message="etcd is slow", what="delete")
    assert not await run.step()
    del run.server.refuses["delete", "Job"]
    assert await run.step()
    assert run.told() == ["Erasing", "Erased"]


async def test_finding_13_policy_may_still_become_retain() -> None:
    run = Run()
    assert not await run.step()
    run.server.objects[CR]["spec"]["storage"]["deletionPolicy"] = "Retain"
    run.server.put(run.server.objects[CR])
    assert await run.step()


async def test_finding_12_a_strangers_job_of_the_name_releases_nothing() -> None:
    run = Run()
    stranger = {"kind": "Job", "metadata": {"name": JOB[2], "namespace": "team"}}
    run.server.put(stranger | {"status": {"conditions": [{"type": "Complete", "status": "True"}]}})
    for _ in range(4):
        assert not await run.step()
    assert run.ready()[0] == "NameConflict"
    assert JOB in run.server.objects


async def test_another_finalizer_is_left_alone() -> None:
    run = Run("Retain")
    run.server.objects[CR]["metadata"]["finalizers"].append("somebody.else/finalizer")
    run.server.put(run.server.objects[CR])
    for _ in range(3):
        await run.step()
    assert run.server.objects[CR]["metadata"]["finalizers"] == ["somebody.else/finalizer"]
    assert len(run.server.calls) == 1


async def test_an_unreachable_api_server_keeps_the_finalizer() -> None:
    run = Run()
    for verb in ("get", "apply", "status", "finalizers"):
        for kind in ("Job", api.KIND):
            run.server.refuses[verb, kind] = ApiError(status=0, message="connection refused", what=verb)
    for _ in range(3):
        assert not await run.step()
    run.server.refuses.clear()
    run.loop._outcomes._failures.clear()  # their time has come
    assert not await run.step()
    assert JOB in run.server.objects
