"""One cluster's loop: observe, decide, act, report. It never waits for an outcome; the next pass sees it.

Nothing ends it but the end of its cluster. A pass has a deadline; what goes wrong in one is logged, counted and put
into the status, and the next one begins anew.
"""

import asyncio
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from automq_operator import api, naming, runtime, telemetry
from automq_operator.ages import AGE_MAX_S
from automq_operator.api_server import ApiError, ApiServer
from automq_operator.cache import Cache, Manifest
from automq_operator.failover_help import FailoverHelp
from automq_operator.fleet import Fleet
from automq_operator.kafka_admin import AdminFailed, KafkaAdmin
from automq_operator.kafka_observer import KafkaObserver
from automq_operator.observed import ObjectKey, Observed, owned_by
from automq_operator.observer import Observer
from automq_operator.outcomes import Outcomes
from automq_operator.plan import (
    Action,
    Apply,
    DeleteObject,
    DeletePod,
    DeletionPlan,
    EndBroker,
    LabelPod,
    Limits,
    Note,
    Permits,
    SetConfigs,
    SetDraining,
    Unregister,
    digest_of,
    key_of,
    may_try,
)
from automq_operator.reasons import ConditionType, Reason
from automq_operator.resource import Resource
from automq_operator.resources.config import digest
from automq_operator.status import conditions
from automq_operator.verdict import Verdict
from automq_operator.wording import message, refusal_note

log = logging.getLogger(__name__)

RESYNC_S: Final = 60.0
"""A cluster is decided about this often even when nothing has changed."""
QUIET_S: Final = 10.0
"""The brokers of a cluster at rest are asked for their /readyz this often: a store that fails shows only there."""
UNWELL_S: Final = 5.0
"""The same while something is wrong with one of them."""
BUSY_S: Final = 1.0
"""A cluster on which something is under way is looked at this often."""
DELETION_S: Final = 2.0
FAILURE_MAX_S: Final = 30.0
PASS_MAX_S: Final = 60.0
"""A pass that takes longer is given up: its requests and probes have deadlines of their own, far below."""

EmitEvent = Callable[[Mapping[str, Any], Note], None]
"""Posts a Kubernetes Event about the resource."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tools:
    """What all loops share."""

    server: ApiServer
    cache: Cache
    observer: Observer
    fleet: Fleet
    health: telemetry.Health
    emit_event: EmitEvent
    limits: Limits
    default_image: str
    admin: KafkaAdmin
    pull_secrets: tuple[str, ...] = ()
    operator_namespace: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Carried:
    """What came of the actions of one pass."""

    forced: bool
    """A pod was deleted by force."""
    failed: bool
    """One was not carried out."""


class ClusterLoop:
    """Passes over one resource. What it holds is what the API server answered it, to be told from what others do."""

    def __init__(self, tools: Tools, resource: Resource, namespace: str, name: str) -> None:
        assert resource.planning is not None, "topics have a loop of their own"
        self._tools, self._resource, self._planning = tools, resource, resource.planning
        self._namespace, self._name = namespace, name
        self._key = namespace, name
        self._itself: ObjectKey = (resource.kind, name)
        self._nudge = asyncio.Event()
        self._outcomes = Outcomes()
        self._applied: dict[ObjectKey, str] = {}
        """What was ours in each child after our last apply."""
        self._digests: dict[ObjectKey, tuple[str, str]] = {}
        """What is ours in each child now, by its version."""
        self._strangers: dict[ObjectKey, Manifest] = {}
        self._noted: frozenset[Note] = frozenset()
        self._failures = 0
        self._failure_logged = ""
        self._last: tuple[object, ...] = ()
        """What the last decision was made from, if nothing is under way since."""
        self._decided_at = 0.0
        self._kafka = KafkaObserver(tools.admin, f"{namespace}/{name}")
        self._failover = FailoverHelp(tools.admin, f"{namespace}/{name}", self._ended_gone)
        self._released = ""
        """uid of the resource whose finalizer we took off: the watch may show it with it for a while."""

    def _parsed(self, body: Manifest) -> Any:
        """The resource, parsed. Raises msgspec.ValidationError, whose message names the field."""
        tools = self._tools
        return self._planning.parse(
            body,
            default_image=tools.default_image,
            pull_secrets=tools.pull_secrets,
            operator_namespace=tools.operator_namespace,
        )

    def _ended_gone(self, uid: str) -> None:
        self._tools.observer.ended_gone(*self._key, uid)
        self.nudge()

    def nudge(self) -> None:
        """Something of the cluster changed."""
        self._nudge.set()

    async def run(self) -> None:
        """Until the resource is gone."""
        self._tools.fleet.join(self._key)
        try:
            while True:
                self._nudge.clear()
                delay = await self._guarded_pass()
                if delay is None:
                    return
                try:
                    await asyncio.wait_for(self._nudge.wait(), delay)
                except TimeoutError:
                    pass
        finally:
            await self._failover.close()
            self._tools.fleet.leave(self._key)
            self._tools.observer.forget_cluster(*self._key)
            telemetry.forget(*self._key)

    async def _guarded_pass(self) -> float | None:
        """One pass; the seconds until the next, None when the resource is gone."""
        began = runtime.monotonic()
        self._tools.health.passes[self._key] = began
        try:
            async with asyncio.timeout(PASS_MAX_S):
                delay = await self.one_pass()
        except ApiError as error:
            return self._failed(str(error), error.retry_after_s)
        except TimeoutError:
            return self._failed(f"not done within {PASS_MAX_S:.0f} s")
        except Exception as error:  # noqa: BLE001 - supervised here: told by log, metric and status
            return await self._broke(error)
        finally:
            self._tools.health.passes.pop(self._key, None)
        if delay is None:
            return None
        self._failures, self._failure_logged = 0, ""
        telemetry.RECONCILES.labels(*self._key, "done").inc()
        telemetry.LAST_SUCCESS.labels(*self._key).set(runtime.wall_time().timestamp())
        telemetry.RECONCILE_SECONDS.observe(runtime.monotonic() - began)
        telemetry.WRITES.set(self._tools.server.writes)
        return delay

    def _failed(self, text: str, retry_after_s: float | None = None) -> float:
        self._failures += 1
        self._last = ()
        self._tools.fleet.failed(self._key)
        telemetry.RECONCILES.labels(*self._key, "failed").inc()
        log.warning("pass over %s/%s failed: %s", self._namespace, self._name, text)
        return max(min(FAILURE_MAX_S, BUSY_S * 2.0 ** min(self._failures, 10)), retry_after_s or 0.0)

    async def _broke(self, error: Exception) -> float:
        """A bug of ours, or a resource that nobody foresaw: the traceback once, the rest in status and metrics."""
        text = f"{type(error).__name__}: {error}"
        if text != self._failure_logged:
            self._failure_logged = text
            log.exception("pass over %s/%s broke", self._namespace, self._name)
        telemetry.INTERNAL_ERRORS.inc()
        try:
            async with asyncio.timeout(PASS_MAX_S):
                body = self._tools.cache.resource(self._resource.kind, *self._key)
                if body is not None:
                    await self._report_only(body, _unknown(Reason.INTERNAL_ERROR, text))
        except Exception as second:  # noqa: BLE001 - the first was told; the next pass tries again
            log.warning("%s/%s: that could not be reported: %s", self._namespace, self._name, second)
        return self._failed(text)

    async def one_pass(self) -> float | None:
        """Observe, decide, act, report; the seconds until the next, None when the resource is gone."""
        body = self._tools.cache.resource(self._resource.kind, *self._key)
        if body is None:
            return None
        if "deletionTimestamp" in body["metadata"]:
            return await self._deletion_pass(body)
        await self._keep_finalizer(body)
        now = runtime.monotonic()
        observed = await self._kafka.observe(await self._observe(now), body, at_rest=bool(self._last), now=now)
        permits = self._tools.fleet.permits(self._key, now)
        seen = (body["metadata"].get("resourceVersion"), observed, permits)
        if seen == self._last and now - self._decided_at < RESYNC_S:
            return self._pause(observed, now)
        try:
            subject = self._parsed(body)
        except msgspec.ValidationError as error:
            await self._report_only(body, _unknown(Reason.INVALID_SPEC, str(error)))
            self._tools.fleet.failed(self._key)
            self._last, self._decided_at = seen, now
            return QUIET_S
        plan = self._planning.planner(
            subject,
            observed,
            now=runtime.rfc3339(runtime.wall_time()),
            limits=self._tools.limits,
            permits=permits,
        )
        self._outcomes.keep(plan.wanted | {self._itself})
        carried = await self._apply(plan.actions)
        self._tools.fleet.report(self._key, plan, permits, replaced=carried.forced, now=runtime.monotonic())
        self._emit_events(body, plan.notes)
        if plan.status != subject.status:
            await self._write_status(plan.status)
        telemetry.BROKERS.labels(*self._key, "wanted").set(subject.spec.replicas)
        telemetry.BROKERS.labels(*self._key, "serving").set(plan.status.ready_replicas)
        if not plan.converged:
            self._last = ()
            return BUSY_S
        self._last, self._decided_at = seen, now
        return self._pause(observed, now)

    async def _observe(self, now: float) -> Observed:
        for key in list(self._strangers):
            await self._find_stranger(key)
        children = self._tools.cache.children(*self._key)
        self._digests = {key: self._ours(key, live) for key, live in children.items()}
        drifted = frozenset(key for key, (_, ours) in self._digests.items() if self._applied.get(key) != ours)
        return await self._tools.observer.observe(
            *self._key, refused=self._outcomes.refused(now), drifted=drifted, strangers=self._strangers
        )

    def _ours(self, key: ObjectKey, live: Manifest) -> tuple[str, str]:
        version = live["metadata"].get("resourceVersion") or ""
        before = self._digests.get(key)
        return before if before is not None and before[0] == version and version else (version, _ours(live))

    def _pause(self, observed: Observed, now: float) -> float:
        """Nothing to do: brokers are asked again, sooner when one of them is not well or its node may be lost."""
        on = [observed.nodes.get(pod.node) for pod in observed.pods if pod.node is not None]
        if any(node is not None and not node.ready and node.not_ready_s < AGE_MAX_S for node in on):
            return BUSY_S
        well = all(pod.readyz is not None and pod.readyz.reason is None for pod in observed.pods)
        wait_s = QUIET_S if well and observed.pods else UNWELL_S
        retry_s = self._outcomes.next_s(now)
        return wait_s if retry_s is None else max(BUSY_S, min(wait_s, retry_s))

    async def _keep_finalizer(self, body: Manifest) -> None:
        """Only a resource whose data go with it needs somebody to take them away."""
        metadata = body["metadata"]
        found: list[str] = list(metadata.get("finalizers") or [])
        storage = (body.get("spec") or {}).get("storage") or {}
        wanted = storage.get("deletionPolicy") == "Delete"
        if wanted == (naming.FINALIZER in found):
            self._outcomes.done(self._itself)
            return
        refusal = self._outcomes.refused(runtime.monotonic()).get(self._itself)
        if refusal is not None and not refusal.due:
            return
        kept = [name for name in found if name != naming.FINALIZER] + ([naming.FINALIZER] if wanted else [])
        try:
            self._tools.cache.wrote(self._resource.kind, await self._tools.server.set_finalizers(body, kept))
        except ApiError as error:
            self._did_not(self._itself, "", error)
        else:
            self._outcomes.done(self._itself)

    async def _apply(self, actions: Sequence[Action]) -> Carried:
        """Carry out each action; one that fails does not keep the others from being tried."""
        forced = failed = False
        for action in actions:
            key = key_of(action)
            try:
                await self._act(action)
            except (ApiError, AdminFailed) as error:
                failed = True
                self._did_not(key, digest_of(action), error)
            else:
                self._outcomes.done(key)
                forced = forced or (isinstance(action, DeletePod) and action.force)
        return Carried(forced=forced, failed=failed)

    def _did_not(self, key: ObjectKey, digest: str, error: ApiError | AdminFailed) -> None:
        """The API server, or a broker, did not do something: the next pass knows, and reports it."""
        telemetry.REFUSED.labels(key[0], str(error.status)).inc()
        log.warning("%s/%s: %s", self._namespace, self._name, error)
        self._outcomes.failed(
            key,
            digest=digest,
            status=error.status,
            message=error.message,
            passing=error.passing,
            retry_after_s=error.retry_after_s,
            now=runtime.monotonic(),
        )

    async def _act(self, action: Action) -> None:
        match action:
            case Apply(manifest=manifest, uid=uid):
                await self._apply_child(manifest, uid)
            case DeletePod(name=name, uid=uid, force=force):
                await self._delete("Pod", name, uid, grace_s=0 if force else None)
            case DeleteObject(kind=kind, name=name, uid=uid, foreground=foreground):
                await self._delete(kind, name, uid, foreground=foreground)
            case LabelPod(name=name, uid=uid, draining=draining):
                label = {naming.DRAINING_LABEL: "true" if draining else None}
                live = await self._tools.server.set_labels("Pod", self._namespace, name, uid=uid, labels=label)
                self._tools.cache.wrote("Pod", live)
            case SetDraining(broker=broker, on=on, through=through):
                self._tools.server.check_leading("drain a broker")
                await self._tools.admin.set_draining(through, broker, on=on)
            case EndBroker():
                self._tools.server.check_leading("tell of a broker that is gone")
                self._failover.end(action)
            case Unregister(broker=broker, through=through):
                self._tools.server.check_leading("unregister a broker")
                await self._tools.admin.unregister(through, broker)
                self._kafka.forget()
            case SetConfigs(broker=about, set=set, unset=unset, through=through):
                self._tools.server.check_leading("set configs")
                self._kafka.forget()
                await self._tools.admin.set_configs(through, about, set=set, unset=unset)

    async def _apply_child(self, manifest: Manifest, uid: str | None) -> None:
        kind, name = key = manifest["kind"], manifest["metadata"]["name"]
        if uid is None and await self._find_stranger(key):
            return  # the next pass sees it and says whose it is
        try:
            live = await self._tools.server.apply(manifest, uid)
        except ApiError as error:
            if uid is not None and error.status == 409:
                await self._recheck(key, uid)
            raise
        self._tools.cache.wrote(kind, live)
        self._applied[kind, name] = _ours(live)

    async def _find_stranger(self, key: ObjectKey) -> bool:
        """Whether the API server has an object of this name that our labels do not show: it is not made, nor ours."""
        live = await self._tools.server.get(key[0], self._namespace, key[1])
        resource = self._tools.cache.resource(self._resource.kind, *self._key)
        if live is None or (resource is not None and owned_by(live, resource["metadata"]["uid"])):
            self._strangers.pop(key, None)
            if live is not None:
                self._tools.cache.wrote(key[0], live)
            return False
        self._strangers[key] = live
        return True

    async def _recheck(self, key: ObjectKey, uid: str) -> None:
        """An object is not the one that the watch shows: what that missed is asked for at once."""
        if not await self._find_stranger(key) and await self._tools.server.get(key[0], self._namespace, key[1]) is None:
            self._tools.cache.deleted(key[0], self._namespace, key[1], uid)

    async def _delete(
        self, kind: str, name: str, uid: str, *, grace_s: int | None = None, foreground: bool = False
    ) -> None:
        ending = await self._tools.server.delete(
            kind, self._namespace, name, uid=uid, grace_s=grace_s, foreground=foreground
        )
        if ending is not None:
            self._tools.cache.wrote(kind, ending)

    def _emit_events(self, body: Mapping[str, Any], notes: Sequence[Note]) -> None:
        """Each decision once for as long as it stands; when it is made again later it is told again."""
        for note in notes:
            if note not in self._noted:
                self._tools.emit_event(body, note)
        self._noted = frozenset(notes)

    async def _write_status(self, status: api.Status) -> None:
        live = await self._tools.server.write_status(*self._key, api.to_yaml_dict(status))
        self._tools.cache.wrote(self._resource.kind, live)

    async def _report_only(self, body: Manifest, verdict: Verdict, *, phase: str | None = None) -> bool:
        """Write one condition and leave the rest of the status as it is; whether that was news."""
        try:
            previous = api.parse_status(body.get("status"))
        except msgspec.ValidationError:
            previous = api.Status()
        generation = body["metadata"].get("generation", 0)
        now = runtime.rfc3339(runtime.wall_time())
        (found,) = conditions([verdict], previous.conditions, generation=generation, now=now)
        others = [condition for condition in previous.conditions if condition.type != found.type]
        report = msgspec.structs.replace(
            previous, phase=phase or previous.phase, conditions=[found, *others], observed_generation=generation
        )
        if report == previous:
            return False
        await self._write_status(report)
        return True

    async def _deletion_pass(self, body: Manifest) -> float | None:
        """What is left to do before the finalizer may go. The time limit holds whatever else goes wrong."""
        self._tools.fleet.leave(self._key)
        metadata = body["metadata"]
        if naming.FINALIZER not in (metadata.get("finalizers") or []) or self._released == metadata["uid"]:
            return RESYNC_S  # somebody else's finalizer, or the watch is late
        deleting_s = runtime.seconds_since(metadata.get("deletionTimestamp"))
        plan = self._planning.released(body, deleting_s=deleting_s, limits=self._tools.limits)
        if plan is None:
            plan = await self._plan_deletion(body)
        refused = self._outcomes.refused(runtime.monotonic())
        self._emit_events(
            body, [*plan.notes, *(refusal_note(key, refusal) for key, refusal in sorted(refused.items()))]
        )
        await self._report_deletion(body, plan)
        self._outcomes.keep(frozenset(map(key_of, plan.actions)))
        carried = await self._apply([action for action in plan.actions if may_try(refused, action)])
        if not plan.done or carried.failed:
            return DELETION_S
        current = self._tools.cache.resource(self._resource.kind, *self._key) or body
        kept = [name for name in current["metadata"].get("finalizers") or [] if name != naming.FINALIZER]
        try:
            self._tools.cache.wrote(self._resource.kind, await self._tools.server.set_finalizers(current, kept))
        except ApiError as error:
            if error.status != 404:
                raise
        self._released = metadata["uid"]
        return RESYNC_S

    async def _plan_deletion(self, body: Manifest) -> DeletionPlan:
        try:
            subject = self._parsed(body)
        except msgspec.ValidationError as error:
            # Its limit ends it.
            log.warning("%s/%s cannot be read: %s", self._namespace, self._name, error)
            return DeletionPlan()
        observed = await self._observe(runtime.monotonic())
        return self._planning.deletion(subject, observed, body, limits=self._tools.limits, permits=Permits())

    async def _report_deletion(self, body: Manifest, plan: DeletionPlan) -> None:
        """What it waits for, or leaves behind, in the status: Events cannot be made in a namespace that goes."""
        if plan.finding is None:
            return
        text = message(plan.finding)
        verdict = Verdict(type=ConditionType.READY, holds=False, reason=plan.finding.reason, message=text)
        try:
            if await self._report_only(body, verdict, phase="Deleting"):
                log.info("deletion of %s/%s: %s", self._namespace, self._name, text)
        except ApiError as error:
            log.warning("status of %s/%s: %s", self._namespace, self._name, error)


def _unknown(reason: Reason, text: str) -> Verdict:
    """Nothing could be decided about a cluster."""
    return Verdict(type=ConditionType.READY, holds=None, reason=reason, message=text)


def _ours(live: Manifest) -> str:
    """What of a live object is ours, as the API server keeps it: another who changes a field takes it from here."""
    for entry in live["metadata"].get("managedFields") or []:
        if (entry.get("manager"), entry.get("operation")) == (naming.FIELD_MANAGER, "Apply"):
            return digest(json.dumps(entry.get("fieldsV1"), sort_keys=True))
    return ""
