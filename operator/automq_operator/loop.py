"""One cluster's loop: observe, reconcile, apply, report. It never waits for an outcome; the next pass sees it."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from automq_operator import api, cluster, runtime, telemetry
from automq_operator.api_server import ApiError, ApiServer
from automq_operator.cluster import Cluster
from automq_operator.observed import ObjectKey, Observed, Refusal
from automq_operator.observer import Observer
from automq_operator.plan import Action, Apply, DeleteObject, DeletePod, Limits, Note, Plan
from automq_operator.reasons import ConditionType, Reason
from automq_operator.reconcile import reconcile
from automq_operator.status import Verdict, conditions

log = logging.getLogger(__name__)

RESYNC_S: Final = 30.0
"""A settled cluster is looked at this often even when nothing happens."""
PROBE_S: Final = 5.0
"""A settled cluster's brokers are asked for their /readyz this often: a store that fails shows only there."""
BUSY_S: Final = 1.0
"""A cluster on which something is under way is looked at this often."""
FAILURE_MAX_S: Final = 30.0

Tell = Callable[[Mapping[str, Any], Note], None]
"""Posts a Kubernetes Event about the resource."""


class ClusterLoop:
    """Passes over one cluster. Holds nothing that the next pass could not find out again."""

    def __init__(
        self, server: ApiServer, observer: Observer, tell: Tell, *, default_image: str, limits: Limits
    ) -> None:
        self._server, self._observer, self._tell = server, observer, tell
        self._default_image, self._limits = default_image, limits
        self._failures = 0
        self._noted: frozenset[Note] = frozenset()
        self._refused: dict[ObjectKey, Refusal] = {}

    async def run(self, namespace: str, name: str, nudge: asyncio.Event, stopped: Callable[[], bool]) -> None:
        """Until `stopped`. `nudge` wakes it when something of the cluster changed."""
        while not stopped():
            nudge.clear()
            delay = await self._guarded_pass(namespace, name)
            if delay is None:
                return
            try:
                await asyncio.wait_for(nudge.wait(), delay)
            except TimeoutError:
                pass

    async def _guarded_pass(self, namespace: str, name: str) -> float | None:
        """One pass; the seconds until the next, None when the resource is gone."""
        began = runtime.monotonic()
        try:
            delay = await self.one_pass(namespace, name)
        except (ApiError, OSError, TimeoutError) as error:
            self._failures += 1
            telemetry.RECONCILES.labels(namespace, name, "failed").inc()
            log.warning("pass over %s/%s failed: %s", namespace, name, error)
            return float(min(FAILURE_MAX_S, BUSY_S * 2 ** min(self._failures, 10)))
        self._failures = 0
        telemetry.RECONCILES.labels(namespace, name, "done").inc()
        telemetry.LAST_SUCCESS.labels(namespace, name).set(runtime.wall_time().timestamp())
        telemetry.RECONCILE_SECONDS.observe(runtime.monotonic() - began)
        telemetry.WRITES.set(self._server.writes)
        return delay

    async def one_pass(self, namespace: str, name: str) -> float | None:
        """Observe, decide, act, report."""
        body = await self._server.get(api.KIND, namespace, name)
        if body is None or "deletionTimestamp" in body["metadata"]:
            return None
        try:
            subject = cluster.parse(body, default_image=self._default_image)
        except msgspec.ValidationError as error:
            await self._report_invalid(body, str(error))
            return RESYNC_S
        observed = await self._observer.observe(subject, self._refused)
        plan = reconcile(subject, observed, now=runtime.rfc3339(runtime.wall_time()), limits=self._limits)
        failed = await self.apply(subject, plan.actions)
        self._say(body, plan.notes)
        await self._write_status(subject, plan)
        telemetry.BROKERS.labels(namespace, name, "wanted").set(subject.spec.replicas)
        telemetry.BROKERS.labels(namespace, name, "serving").set(plan.status.ready_replicas)
        if failed is not None:
            raise failed
        if not plan.settled:
            return BUSY_S
        return await self._quiet(observed)

    async def _quiet(self, observed: Observed) -> float:
        """Nothing to do: the brokers are probed more often than the API server is read."""
        all_well = all(pod.readyz is not None and pod.readyz.reason is None for pod in observed.pods)
        return PROBE_S if not all_well else RESYNC_S / 3

    async def apply(self, subject: Cluster, actions: Any) -> ApiError | None:
        """Carry out each action; one that fails does not keep the others from being tried."""
        failed: ApiError | None = None
        for action in actions:
            try:
                await self._act(subject, action)
            except ApiError as error:
                log.warning("%s/%s: %s", subject.namespace, subject.name, error)
                failed = failed or error
        return failed

    async def _act(self, subject: Cluster, action: Action) -> None:
        match action:
            case Apply(manifest=manifest):
                await self._server.apply(manifest)
            case DeletePod(name=name, uid=uid, force=force):
                grace_s = 0 if force else None
                await self._server.delete("Pod", subject.namespace, name, uid=uid, grace_s=grace_s)
            case DeleteObject(kind=kind, name=name, uid=uid, foreground=foreground):
                await self._server.delete(kind, subject.namespace, name, uid=uid, foreground=foreground)

    def _say(self, body: Mapping[str, Any], notes: Any) -> None:
        """Each decision once: a pass that decides the same again says nothing new."""
        for note in notes:
            if note not in self._noted:
                self._tell(body, note)
        self._noted = frozenset(notes)

    async def _write_status(self, subject: Cluster, plan: Plan) -> None:
        if plan.status != subject.status:
            await self._server.write_status(subject.namespace, subject.name, api.to_yaml_dict(plan.status))

    async def _report_invalid(self, body: Mapping[str, Any], message: str) -> None:
        """The API server let it pass and we cannot read it: say so, touch nothing else."""
        metadata = body["metadata"]
        previous = api.parse_status(body.get("status"))
        verdict = Verdict(type=ConditionType.READY, holds=None, reason=Reason.INVALID_SPEC, message=message)
        generation = metadata.get("generation", 0)
        found = conditions(
            [verdict], previous.conditions, generation=generation, now=runtime.rfc3339(runtime.wall_time())
        )
        report = msgspec.structs.replace(previous, conditions=found, observed_generation=generation)
        if report != previous:
            await self._server.write_status(metadata["namespace"], metadata["name"], api.to_yaml_dict(report))
