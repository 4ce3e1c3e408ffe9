"""HTTP for whatever runs the broker: /metrics, /livez, /readyz.

/livez answers as long as the event loop turns: answering at all is the proof. /readyz is 200 only while serving; its
body is a contract (docs/broker.md).
"""

import json
import socket
from collections.abc import Callable
from typing import Final

from aiohttp import web

from automq import __version__
from automq.ids import ClusterId, NodeId
from automq.runtime.telemetry import Metrics
from automq.server.lifecycle import Lifecycle, State

METRICS_CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"


def ready_body(lifecycle: Lifecycle, *, node: NodeId, cluster_id: ClusterId | None) -> tuple[int, str]:
    """Status and body of /readyz."""
    body = {
        "state": lifecycle.state.value,
        "reason": lifecycle.reason.value if lifecycle.reason else None,
        "message": lifecycle.message,
        "nodeId": node,
        "clusterId": cluster_id,
        "version": __version__,
    }
    return (200 if lifecycle.state is State.SERVING else 503), json.dumps(body)


class Probes:
    """The HTTP server of one broker."""

    def __init__(
        self, *, lifecycle: Lifecycle, metrics: Metrics, node: NodeId, cluster_id: Callable[[], ClusterId | None]
    ) -> None:
        self._lifecycle = lifecycle
        self._metrics = metrics
        self._node = node
        self._cluster_id = cluster_id
        self._runner: web.AppRunner | None = None

    async def start(self, bound: socket.socket) -> None:
        """Answer on `bound`, a bound socket that is ours from now on."""
        application = web.Application()
        application.router.add_get("/metrics", self._answer_metrics)
        application.router.add_get("/livez", self._answer_live)
        application.router.add_get("/readyz", self._answer_ready)
        self._runner = web.AppRunner(application, access_log=None, handle_signals=False, shutdown_timeout=1.0)
        await self._runner.setup()
        await web.SockSite(self._runner, bound).start()

    async def stop(self) -> None:
        """Close the server and its connections."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _answer_metrics(self, _request: web.Request) -> web.Response:
        return web.Response(body=self._metrics.render(), headers={"Content-Type": METRICS_CONTENT_TYPE})

    async def _answer_live(self, _request: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def _answer_ready(self, _request: web.Request) -> web.Response:
        status, body = ready_body(self._lifecycle, node=self._node, cluster_id=self._cluster_id())
        return web.Response(status=status, text=body, content_type="application/json")
