"""/metrics, /livez and /readyz, on a thread and loop of their own: they must answer while the operator's loop hangs."""

import asyncio
import threading

from aiohttp import web
from prometheus_client import generate_latest

from automq_operator import runtime
from automq_operator.telemetry import REGISTRY, Health


class HealthServer:
    """Starts at once, stops with the process."""

    def __init__(self, health: Health, port: int) -> None:
        self._health, self._port = health, port
        self._thread = threading.Thread(target=self._run, name="health", daemon=True)

    def start(self) -> None:
        """Serve in the background."""
        self._thread.start()

    def _run(self) -> None:
        loop = asyncio.new_event_loop()
        loop.run_until_complete(self._serve())
        loop.run_forever()

    async def _serve(self) -> None:
        application = web.Application()
        application.router.add_get("/metrics", self._metrics)
        application.router.add_get("/livez", self._livez)
        application.router.add_get("/readyz", self._readyz)
        runner = web.AppRunner(application, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, None, self._port).start()

    async def _metrics(self, _: web.Request) -> web.Response:
        return web.Response(body=generate_latest(REGISTRY), content_type="text/plain")

    async def _livez(self, _: web.Request) -> web.Response:
        return _answer("alive", self._health.alive(runtime.monotonic()))

    async def _readyz(self, _: web.Request) -> web.Response:
        return _answer("ready", self._health.ready(runtime.monotonic()))


def _answer(word: str, wrong: str | None) -> web.Response:
    return web.Response(text=f"{word}\n") if wrong is None else web.Response(status=503, text=f"{wrong}\n")
