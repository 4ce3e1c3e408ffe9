"""kopf's side: indices of what is watched, a loop for each cluster, nudges when something changes. Decides nothing."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Any, Final

import aiohttp
import kopf

from automq_operator import api, naming, runtime
from automq_operator.api_server import ApiError, ApiServer
from automq_operator.cache import INDEXED_KINDS, Cache, index_name, kept, place
from automq_operator.catalogue import CLUSTER, RESOURCES
from automq_operator.fleet import Fleet
from automq_operator.kafka_admin import KafkaAdmin
from automq_operator.kinds import KINDS, OPTIONAL_KINDS, RESOURCE_KINDS, WATCHED_KINDS
from automq_operator.loop import ClusterLoop, Tools
from automq_operator.observer import Observer
from automq_operator.plan import Limits
from automq_operator.recorder import Recorder
from automq_operator.settings import OperatorSettings
from automq_operator.telemetry import Health
from automq_operator.topic_loop import TopicLoop
from automq_operator.topics import api as topic_api

log = logging.getLogger(__name__)

Key = tuple[str, str, str]
"""(kind, namespace, name) of a custom resource."""

RELIST_S: Final = 300.0
"""A watch may lose the end of an object: so often one list a kind says what is really there."""
RELIST_AGAIN_S: Final = 10.0


async def absent_kinds(server: ApiServer, settings: OperatorSettings) -> frozenset[str]:
    """Custom resources whose definitions are not installed, among those that may be absent."""
    found = set()
    for kind in OPTIONAL_KINDS:
        try:
            await server.list(kind, settings.namespaces[0] if settings.namespaces else None)
        except ApiError as error:
            if error.status != 404:
                raise
            found.add(kind)
            log.warning("%s is not served: its definition is not installed; install it and restart the operator", kind)
    return frozenset(found)


class Operator:
    """Registers the handlers and owns the loops, one a cluster."""

    def __init__(
        self,
        settings: OperatorSettings,
        server: ApiServer,
        session: aiohttp.ClientSession,
        health: Health,
        *,
        absent: frozenset[str] = frozenset(),
    ) -> None:
        """`absent` are kinds that the API server does not know: a watch of one would end all others."""
        self._settings, self._server, self._health = settings, server, health
        self._cache = Cache()
        self._observer = Observer(self._cache, server, session)
        self._recorder = Recorder(server, identity=settings.identity)
        self._tools = Tools(
            server=server,
            cache=self._cache,
            observer=self._observer,
            fleet=Fleet(default_image=settings.default_image, now=runtime.monotonic()),
            health=health,
            emit_event=self._recorder.emit_event,
            limits=Limits(node_lost_s=settings.node_lost_s, erase_s=settings.erase_s),
            default_image=settings.default_image,
            admin=KafkaAdmin(),
            pull_secrets=settings.pull_secrets,
            operator_namespace=settings.own_namespace,
        )
        self._loops: dict[Key, ClusterLoop | TopicLoop] = {}
        self._tasks: dict[Key, asyncio.Task[None]] = {}
        self._closed = False
        self._others: list[asyncio.Task[None]] = []
        self._nodes: dict[str, object] = {}
        self._kinds = tuple(kind for kind in RESOURCE_KINDS if kind not in absent)

    def registry(self, login: Callable[..., kopf.ConnectionInfo | None] | None = None) -> kopf.OperatorRegistry:
        """All handlers; `login` says where the API server is."""
        registry = kopf.OperatorRegistry()
        kopf.on.startup(registry=registry)(self._start)
        kopf.on.login(registry=registry)(login or _login)
        for kind in INDEXED_KINDS:
            if kind in RESOURCE_KINDS and kind not in self._kinds:
                continue
            where = KINDS[kind]
            kopf.index(where.group, where.version, where.plural, registry=registry, id=index_name(kind))(_indexer(kind))
        handlers: dict[str, Any] = {kind: self._resource_handler(kind) for kind in self._kinds}
        handlers |= {kind: self._child_handler(kind) for kind in WATCHED_KINDS} | {"Node": self._on_node_event}
        for kind, handler in handlers.items():
            where = KINDS[kind]
            kopf.on.event(where.group, where.version, where.plural, registry=registry)(handler)
        return registry

    async def _start(self, settings: kopf.OperatorSettings, **indices: Any) -> None:
        # kopf takes its own finalizer off what no handler of it needs; ours is not kopf's business.
        settings.persistence.finalizer = f"{api.GROUP}/not-used"
        # Every resource is known at the start: no watching of CRDs or namespaces, so no permission for it.
        settings.scanning.disabled = True
        settings.posting.enabled = False  # it posts from tasks of its own only; see `recorder`
        settings.networking.connect_timeout = 10
        settings.networking.request_timeout = 60
        for kind in WATCHED_KINDS:
            where = KINDS[kind]
            settings.watching.label_selectors[where.group, where.version, where.plural] = naming.CLUSTER_LABEL
        self._cache.bind(indices)
        loop = asyncio.get_running_loop()
        self._others = [loop.create_task(self._relist_for_ever()), loop.create_task(self._recorder.run())]

    async def close(self) -> None:
        """End the loops, however kopf ended: they must not go on beside those of a new beginning."""
        self._closed = True
        tasks = [*self._tasks.values(), *self._others]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._health.synced = False

    def _resource_handler(self, kind: str) -> Callable[..., Any]:
        async def handler(type: str | None, namespace: str | None, name: str, uid: str, **_: Any) -> None:
            if type == "DELETED":
                self._cache.deleted(kind, namespace or "", name, uid)
            self._wake((kind, namespace or "", name))

        return handler

    def _child_handler(self, kind: str) -> Callable[..., Any]:
        async def handler(
            type: str | None, namespace: str | None, name: str, body: Mapping[str, Any], **_: Any
        ) -> None:
            if type == "DELETED":
                self._cache.deleted(kind, namespace or "", name, body["metadata"]["uid"])
            loop = self._loops.get((CLUSTER.kind, *place(kind, body)))
            if loop is not None:
                loop.nudge()
            if kind == "Pod":
                for topics in self._loops.values():
                    if isinstance(topics, TopicLoop):
                        topics.pod_changed(*place(kind, body))

        return handler

    async def _on_node_event(self, type: str | None, name: str, body: Mapping[str, Any], **_: Any) -> None:
        """Kubelets report every few minutes; only what planners look at wakes anybody."""
        seen = None if type == "DELETED" else kept("Node", body)
        if self._nodes.get(name) == seen:
            return
        if seen is None:
            self._nodes.pop(name, None)
        else:
            self._nodes[name] = seen
        self._observer.nodes_changed()
        for loop in self._loops.values():
            if isinstance(loop, ClusterLoop):
                loop.nudge()

    def _wake(self, key: Key) -> None:
        """Nudge the loop of a resource; begin one where there is none."""
        if self._closed:
            return
        loop = self._loops.get(key)
        if loop is not None:
            loop.nudge()
            return
        if self._cache.resource(*key) is None:
            return
        kind, namespace, name = key
        if kind == topic_api.KIND:
            loop = TopicLoop(self._tools, namespace, name)
        else:
            resource = next(resource for resource in RESOURCES if resource.kind == kind)
            loop = ClusterLoop(self._tools, resource, namespace, name)
        self._loops[key] = loop
        self._tasks[key] = task = asyncio.get_running_loop().create_task(loop.run())
        task.add_done_callback(lambda done: self._ended(key, done))

    def _ended(self, key: Key, task: asyncio.Task[None]) -> None:
        self._loops.pop(key, None)
        self._tasks.pop(key, None)
        if self._closed or task.cancelled():
            return
        error = task.exception()
        if error is not None:
            log.error("the loop of %s %s/%s ended", *key, exc_info=error)
        # Made anew while the old loop ended, or ended by a bug: the cluster still needs one.
        if self._cache.resource(*key) is not None:
            asyncio.get_running_loop().call_later(1.0, self._wake, key)

    async def _relist_for_ever(self) -> None:
        while True:
            try:
                await self._relist()
                delay = RELIST_S
            except ApiError as error:
                log.warning("not listed: %s", error)
                delay = RELIST_AGAIN_S
            except Exception:
                log.exception("not listed")
                delay = RELIST_AGAIN_S
            await asyncio.sleep(delay)

    async def _relist(self) -> None:
        """One list a kind over all clusters, and what it corrects."""
        corrected = 0
        pods: set[str] = set()
        found: list[Key] = []
        for kind in (*self._kinds, *WATCHED_KINDS):
            known = self._cache.known(kind)
            selector = naming.CLUSTER_LABEL if kind in WATCHED_KINDS else ""
            items: list[Mapping[str, Any]] = []
            for namespace in self._settings.namespaces or (None,):
                items += await self._server.list(kind, namespace, selector)
            # Items of a list do not say what they are.
            what = {"apiVersion": KINDS[kind].path.removeprefix("/apis/").removeprefix("/api/"), "kind": kind}
            items = [{**what, **item} for item in items]
            corrected += self._cache.listed(kind, items, known=known)
            if kind == "Pod":
                pods = {item["metadata"]["uid"] for item in items}
            if kind in RESOURCE_KINDS:
                found += [(kind, item["metadata"]["namespace"], item["metadata"]["name"]) for item in items]
        self._observer.forget_pods(pods)
        first, self._health.synced = not self._health.synced, True
        for key in found:
            if key not in self._loops:
                self._wake(key)
        if corrected and not first:
            log.warning("the watches had missed %d changes", corrected)
            for loop in self._loops.values():
                loop.nudge()


def _indexer(kind: str) -> Callable[..., Any]:
    async def index(body: Mapping[str, Any], **_: Any) -> dict[tuple[str, str], Any]:
        return {place(kind, body): kept(kind, body)}

    return index


def _login(**kwargs: Any) -> kopf.ConnectionInfo | None:
    """In a pod its ServiceAccount, else the kubeconfig: the same order as `api_server.load_config`."""
    return kopf.login_with_service_account(**kwargs) or kopf.login_with_kubeconfig(**kwargs)
