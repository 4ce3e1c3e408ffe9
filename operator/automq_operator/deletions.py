"""Shell: resources that are being deleted. One step looks, decides, acts and reports; the next sees what came of it."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from automq_operator import api, cluster, runtime
from automq_operator.api_server import ApiError, ApiServer
from automq_operator.observed import ObjectKey, Refusal
from automq_operator.observer import Observer
from automq_operator.plan import Action, Apply, DeleteObject, DeletePod, DeletionPlan, Limits, Note, Permits
from automq_operator.planners import deletion
from automq_operator.reasons import ConditionType
from automq_operator.status import Verdict, conditions
from automq_operator.wording import message

log = logging.getLogger(__name__)

Tell = Callable[[Mapping[str, Any], Note], None]
"""Posts a Kubernetes Event about the resource."""


@dataclass(slots=True)
class _Memory:
    """Of one deletion: what came of earlier actions, and what was told."""

    refused: dict[ObjectKey, Refusal] = field(default_factory=dict)
    told: set[Note] = field(default_factory=set)


class Deletions:
    """Brings resources to their end."""

    def __init__(
        self, server: ApiServer, observer: Observer, tell: Tell, *, default_image: str, limits: Limits
    ) -> None:
        self._server, self._observer, self._tell = server, observer, tell
        self._default_image, self._limits = default_image, limits
        self._memories: dict[str, _Memory] = {}

    async def step(self, namespace: str, name: str, uid: str) -> bool:
        """One look at a resource that is being deleted; whether its finalizer may go. Raises ApiError."""
        body = await self._server.get(api.KIND, namespace, name)
        if body is None or body["metadata"]["uid"] != uid:
            self._memories.pop(uid, None)
            return True
        memory = self._memories.setdefault(uid, _Memory())
        deleting_s = runtime.seconds_since(body["metadata"].get("deletionTimestamp"))
        plan = deletion.released(body, deleting_s=deleting_s, limits=self._limits)
        if plan is None:
            plan = await self._look(body, memory)
        for note in plan.notes:
            if note not in memory.told:
                memory.told.add(note)
                self._tell(body, note)
        await self._report(body, plan)
        carried_out = [await self._carry_out(namespace, action, memory) for action in plan.actions]
        if plan.done and all(carried_out):
            del self._memories[uid]
            return True
        return False

    async def _look(self, body: Mapping[str, Any], memory: _Memory) -> DeletionPlan:
        try:
            subject = cluster.parse(body, default_image=self._default_image)
        except msgspec.ValidationError as error:
            # Its limit ends it.
            log.warning("%s/%s cannot be read: %s", body["metadata"]["namespace"], body["metadata"]["name"], error)
            return DeletionPlan()
        observed = await self._observer.observe(subject, memory.refused)
        return deletion.plan(subject, observed, body, limits=self._limits, permits=Permits())

    async def _carry_out(self, namespace: str, action: Action, memory: _Memory) -> bool:
        """What the API server does not carry out is seen by the next step."""
        if isinstance(action, Apply):
            key = (action.manifest["kind"], action.manifest["metadata"]["name"])
        else:
            key = ("Pod" if isinstance(action, DeletePod) else action.kind, action.name)
        try:
            match action:
                case Apply(manifest=manifest):
                    await self._server.apply(manifest)
                case DeletePod(name=name, uid=uid, force=force):
                    await self._server.delete("Pod", namespace, name, uid=uid, grace_s=0 if force else None)
                case DeleteObject(kind=kind, name=name, uid=uid, foreground=foreground):
                    await self._server.delete(kind, namespace, name, uid=uid, foreground=foreground)
        except ApiError as error:
            log.warning("deleting %s: %s", namespace, error)
            memory.refused[key] = Refusal(status=error.status, message=error.message)
            return False
        memory.refused.pop(key, None)
        return True

    async def _report(self, body: Mapping[str, Any], plan: DeletionPlan) -> None:
        """What it waits for, or leaves behind, in the status: Events cannot be made in a namespace that goes."""
        if plan.finding is None:
            return
        text = message(plan.finding)
        metadata = body["metadata"]
        log.info("deletion of %s/%s: %s", metadata["namespace"], metadata["name"], text)
        try:
            previous = api.parse_status(body.get("status"))
        except msgspec.ValidationError:
            previous = api.Status()
        verdict = Verdict(type=ConditionType.READY, holds=False, reason=plan.finding.reason, message=text)
        generation = metadata.get("generation", 0)
        found = conditions(
            [verdict], previous.conditions, generation=generation, now=runtime.rfc3339(runtime.wall_time())
        )
        others = [condition for condition in previous.conditions if condition.type != ConditionType.READY]
        report = msgspec.structs.replace(previous, phase="Deleting", conditions=[*found, *others])
        if report == previous:
            return
        try:
            await self._server.write_status(metadata["namespace"], metadata["name"], api.to_yaml_dict(report))
        except ApiError as error:
            log.warning("status of %s/%s: %s", metadata["namespace"], metadata["name"], error)
