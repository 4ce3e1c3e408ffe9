"""One topic's loop: look, do, look again, report. It never waits for anything but an answer."""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from automq_operator import api, naming, runtime, telemetry
from automq_operator.api_server import ApiError
from automq_operator.kafka_admin import AdminFailed
from automq_operator.loop import Tools
from automq_operator.plan import Note
from automq_operator.reasons import Reason
from automq_operator.topics import api as topic_api
from automq_operator.topics.admin import TopicAdmin
from automq_operator.topics.api import Topic, TopicStatus
from automq_operator.topics.plan import Found, condition_of, earlier, report, synced, verdict, work
from automq_operator.verdict import Verdict

log = logging.getLogger(__name__)

RESYNC_S: Final = 120.0
"""What others changed in Kafka is corrected within so long: nobody tells of it."""
AGAIN_FIRST_S: Final = 2.0
AGAIN_MAX_S: Final = 60.0
PASS_MAX_S: Final = 60.0
MESSAGE_CHARACTERS_MAX: Final = 1024


class TopicLoop:
    """Passes over one AutoMQTopic. It holds nothing but how often it failed in a row."""

    def __init__(self, tools: Tools, namespace: str, name: str) -> None:
        self._tools, self._namespace, self._name = tools, namespace, name
        self._admin = TopicAdmin(tools.admin)
        self._nudge = asyncio.Event()
        self._failures = 0
        self._last: Mapping[str, Any] | None = None
        """The resource as it was seen last: what is to become of the topic when it is gone."""
        self._logged = ""
        self._waits_for: tuple[str, str] | None = None
        """Namespace and name of a cluster that could not be asked."""

    def nudge(self) -> None:
        """The resource changed."""
        self._nudge.set()

    def pod_changed(self, namespace: str, cluster: str) -> None:
        """A broker of a cluster came, went or became Ready: news for a topic that waits for one."""
        if (namespace, cluster) == self._waits_for:
            self._nudge.set()

    async def run(self) -> None:
        """Until the resource is gone."""
        while True:
            self._nudge.clear()
            delay = await self._guarded_pass()
            if delay is None:
                return
            try:
                await asyncio.wait_for(self._nudge.wait(), delay)
            except TimeoutError:
                pass

    async def _guarded_pass(self) -> float | None:
        """The seconds until the next pass; None when there is none."""
        try:
            async with asyncio.timeout(PASS_MAX_S):
                return await self.one_pass()
        except (ApiError, TimeoutError) as error:
            return self._failed(f"{type(error).__name__}: {error}")
        except Exception as error:
            telemetry.INTERNAL_ERRORS.inc()
            text = f"{type(error).__name__}: {error}"
            if text != self._logged:
                self._logged = text
                log.exception("pass over topic %s/%s broke", self._namespace, self._name)
            return self._failed(text)

    def _failed(self, text: str) -> float:
        self._failures += 1
        log.warning("topic %s/%s: %s", self._namespace, self._name, text)
        return float(min(AGAIN_MAX_S, AGAIN_FIRST_S * 2.0 ** min(self._failures - 1, 6)))

    async def one_pass(self) -> float | None:
        """Look, do what is missing, report; the seconds until the next."""
        body = self._tools.cache.resource(topic_api.KIND, self._namespace, self._name)
        if body is None:
            return await self._gone()
        if "deletionTimestamp" in body["metadata"]:
            return RESYNC_S  # somebody else's finalizer
        self._last = body
        try:
            topic = topic_api.parse(body)
        except msgspec.ValidationError as error:
            log.warning("topic %s/%s cannot be read: %s", self._namespace, self._name, error)
            return RESYNC_S
        rival = earlier(topic, self._others())
        if rival is not None:
            text = f"AutoMQTopic/{rival.name} was there before and is about the same topic; remove one of them"
            await self._report(body, topic, None, synced(False, Reason.NAME_CONFLICT, text))
            return RESYNC_S
        through, why = self._ways(topic)
        self._waits_for = None if through else (self._namespace, topic.spec.cluster)
        if not through:
            await self._report(body, topic, None, synced(None, Reason.CLUSTER_NOT_READY, why))
            return RESYNC_S
        try:
            found = await self._made_so(topic, through)
        except AdminFailed as error:
            reason = Reason.UNREACHABLE if error.status == 0 else Reason.REFUSED
            holds = None if error.status == 0 else False
            await self._report(body, topic, None, synced(holds, reason, error.message[:MESSAGE_CHARACTERS_MAX]))
            return self._failed(error.message)
        self._failures, self._logged = 0, ""
        await self._report(body, topic, found, verdict(topic, found))
        return RESYNC_S

    async def _made_so(self, topic: Topic, through: Sequence[tuple[str, int]]) -> Found | None:
        """Do what is missing and look again, so that what is reported was seen."""
        name, admin = topic.topic_name, self._admin
        found = await admin.find(through, name)
        for _ in range(2):  # a topic that was just made may be another's, with other partitions
            todo = work(topic, found)
            if todo.is_nothing:
                return found
            self._tools.server.check_leading("change a topic")
            if todo.create:
                await admin.create(through, name, partitions=topic.spec.partitions, configs=topic.spec.configs)
            if todo.partitions is not None:
                await admin.add_partitions(through, name, total=todo.partitions)
            if todo.set or todo.reset:
                await admin.configure(through, name, set=todo.set, reset=todo.reset)
            found = await admin.find(through, name)
        return found

    async def _gone(self) -> float | None:
        """The resource was deleted while we looked on. Only what it says itself decides about the records."""
        if self._last is None:
            return None
        try:
            topic = topic_api.parse(self._last)
        except msgspec.ValidationError:
            return None
        if topic.spec.deletion_policy != "Delete" or earlier(topic, self._others()) is not None:
            return None
        if any((o.spec.cluster, o.topic_name) == (topic.spec.cluster, topic.topic_name) for o in self._others()):
            return None  # another resource holds it now
        through, why = self._ways(topic)
        try:
            self._tools.server.check_leading("delete a topic")
            if not through:
                raise AdminFailed(status=0, message=why)
            await self._admin.delete(through, topic.topic_name)
        except AdminFailed as error:
            text = f"topic {topic.topic_name} is still there: {error.message}"
            log.warning("%s/%s: %s", self._namespace, self._name, text)
            self._tools.emit_event(self._last, Note(reason="TopicLeftBehind", message=text, warning=True))
        else:
            log.info("%s/%s: topic %s is deleted", self._namespace, self._name, topic.topic_name)
        return None

    def _others(self) -> list[Topic]:
        found = []
        for body in self._tools.cache.resources(topic_api.KIND, self._namespace):
            try:
                topic = topic_api.parse(body)
            except msgspec.ValidationError:
                continue
            if topic.name != self._name:
                found.append(topic)
        return found

    def _ways(self, topic: Topic) -> tuple[list[tuple[str, int]], str]:
        """Addresses of brokers that the kubelets call Ready, or why there are none."""
        cluster = self._tools.cache.resource(api.KIND, self._namespace, topic.spec.cluster)
        if cluster is None:
            return [], f"there is no AutoMQCluster/{topic.spec.cluster} in this namespace"
        if (cluster["spec"].get("paused")) is True:
            return [], f"AutoMQCluster/{topic.spec.cluster} is paused"
        port = api.inside_port(cluster["spec"])
        found = [
            (pod["status"]["podIP"], port)
            for pod in self._tools.cache.pods(self._namespace, topic.spec.cluster)
            if _is_ready(pod)
        ]
        return found, f"no broker of AutoMQCluster/{topic.spec.cluster} is Ready"

    async def _report(self, body: Mapping[str, Any], topic: Topic, found: Found | None, outcome: Verdict) -> None:
        status = report(topic, found, outcome, now=runtime.rfc3339(runtime.wall_time()))
        if status == topic.status:
            return
        if outcome.holds is False and _is_news(topic.status, status):
            self._tools.emit_event(body, Note(reason=str(outcome.reason), message=outcome.message, warning=True))
        built = api.to_yaml_dict(status)
        live = await self._tools.server.write_status(self._namespace, self._name, built, kind=topic_api.KIND)
        self._tools.cache.wrote(topic_api.KIND, live)


def _is_news(before: TopicStatus, now: TopicStatus) -> bool:
    old, new = condition_of(before), condition_of(now)
    return new is not None and (old is None or (old.reason, old.message) != (new.reason, new.message))


def _is_ready(pod: Mapping[str, Any]) -> bool:
    status = pod.get("status") or {}
    conditions = {item["type"]: item["status"] for item in status.get("conditions") or []}
    labels = pod["metadata"].get("labels") or {}
    if labels.get(naming.ROLE_LABEL) != "broker":
        return False
    return (
        "deletionTimestamp" not in pod["metadata"] and conditions.get("Ready") == "True" and bool(status.get("podIP"))
    )
