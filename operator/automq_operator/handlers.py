"""kopf handlers: a daemon for each cluster, nudges from its children, last words at deletion. No decisions here."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Any, Final, cast

import aiohttp
import kopf

from automq_operator import api, naming
from automq_operator.api_server import ApiServer
from automq_operator.deletions import Deletions
from automq_operator.loop import ClusterLoop
from automq_operator.observer import Observer
from automq_operator.plan import Limits, Note
from automq_operator.settings import OperatorSettings
from automq_operator.telemetry import Health

log = logging.getLogger(__name__)

DELETION_STEP_S: Final = 2.0
CHILDREN: Final = (("", "v1", "pods"), ("apps", "v1", "statefulsets"), ("", "v1", "services"), ("batch", "v1", "jobs"))


class Operator:
    """Registers the handlers and keeps one event for each cluster that wakes its loop."""

    def __init__(
        self, settings: OperatorSettings, server: ApiServer, session: aiohttp.ClientSession, health: Health
    ) -> None:
        self._settings, self._server, self._health = settings, server, health
        self._observer = Observer(server, session)
        self._limits = Limits(node_lost_s=settings.node_lost_s, erase_s=settings.erase_s)
        self._deletions = Deletions(
            server, self._observer, _tell, default_image=settings.default_image, limits=self._limits
        )
        self._nudges: dict[tuple[str, str], asyncio.Event] = {}

    def registry(self, login: Callable[..., kopf.ConnectionInfo | None] | None = None) -> kopf.OperatorRegistry:
        """All handlers; `login` says where the API server is."""
        registry = kopf.OperatorRegistry()
        kopf.on.startup(registry=registry)(self._configure)
        kopf.on.login(registry=registry)(login or _login)
        resource = (api.GROUP, api.VERSION, api.PLURAL)
        kopf.daemon(*resource, registry=registry, cancellation_timeout=10, cancellation_backoff=1)(self._daemon)
        kopf.on.event(*resource, registry=registry)(self._on_cluster_event)
        kopf.on.delete(*resource, registry=registry, optional=False)(self._on_delete)
        for child in CHILDREN:
            kopf.on.event(*child, registry=registry, labels={naming.CLUSTER_LABEL: kopf.PRESENT})(self._on_child_event)
        return registry

    def nudge(self, namespace: str, name: str) -> asyncio.Event:
        """The event that wakes the loop of this cluster."""
        return self._nudges.setdefault((namespace, name), asyncio.Event())

    async def _configure(self, settings: kopf.OperatorSettings, **_: Any) -> None:
        prefix = api.GROUP
        settings.persistence.finalizer = f"{prefix}/finalizer"
        settings.persistence.progress_storage = kopf.AnnotationsProgressStorage(prefix=prefix)
        settings.persistence.diffbase_storage = kopf.AnnotationsDiffBaseStorage(prefix=prefix)
        # Every resource is known at the start: no watching of CRDs or namespaces, so no permission for it.
        settings.scanning.disabled = True
        settings.posting.enabled = True
        settings.posting.loggers = False
        settings.networking.connect_timeout = 10
        settings.networking.request_timeout = 60
        settings.execution.default_backoff = 5
        for child in CHILDREN:
            settings.watching.label_selectors[child] = naming.CLUSTER_LABEL

    async def _daemon(self, namespace: str | None, name: str, stopped: Any, **_: Any) -> None:
        loop = ClusterLoop(
            self._server, self._observer, _tell, default_image=self._settings.default_image, limits=self._limits
        )
        assert namespace is not None, "the resource is namespaced"
        nudge = self.nudge(namespace, name)
        try:
            await loop.run(namespace, name, nudge, lambda: bool(stopped))
        finally:
            self._nudges.pop((namespace, name), None)

    async def _on_cluster_event(self, namespace: str | None, name: str, **_: Any) -> None:
        self._wake(namespace or "", name)

    async def _on_child_event(self, namespace: str | None, labels: Mapping[str, str], **_: Any) -> None:
        self._wake(namespace or "", labels[naming.CLUSTER_LABEL])

    def _wake(self, namespace: str, name: str) -> None:
        waiting = self._nudges.get((namespace, name))
        if waiting is not None:
            waiting.set()

    async def _on_delete(self, namespace: str | None, name: str, uid: str, **_: Any) -> None:
        """Repeated until the plan says that nothing is left to do; the finalizer goes with that."""
        assert namespace is not None, "the resource is namespaced"
        if not await self._deletions.step(namespace, name, uid):
            raise kopf.TemporaryError("the data are being removed", delay=DELETION_STEP_S)


def _login(**kwargs: Any) -> kopf.ConnectionInfo | None:
    """In a pod its ServiceAccount, else the kubeconfig: the same order as `api_server.load_config`."""
    return kopf.login_with_service_account(**kwargs) or kopf.login_with_kubeconfig(**kwargs)


def _tell(body: Mapping[str, Any], note: Note) -> None:
    kind = "Warning" if note.warning else "Normal"
    kopf.event(cast(kopf.Body, body), type=kind, reason=note.reason, message=note.message)
