"""The adapter against a server that answers oddly: whatever goes wrong is an ApiError, and every wait ends."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web
from kubernetes.aio import client

from automq_operator import api_server
from automq_operator.api_server import ApiError, ApiServer

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
CONFIG_MAP = {"kind": "ConfigMap", "metadata": {"name": "demo", "namespace": "team"}}


@asynccontextmanager
async def served(handler: Handler) -> AsyncIterator[ApiServer]:
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", handler)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    configuration = client.Configuration()
    configuration.host = runner.addresses and f"http://127.0.0.1:{runner.addresses[0][1]}"
    server = ApiServer(client.ApiClient(configuration))
    try:
        yield server
    finally:
        await server.close()
        await runner.cleanup()


def answering(status: int, body: str, *, content_type: str = "text/plain", **headers: str) -> Handler:
    async def handler(_: web.Request) -> web.Response:
        return web.Response(status=status, text=body, content_type=content_type, headers=headers)

    return handler


async def refusal(server: ApiServer) -> ApiError:
    with pytest.raises(ApiError) as caught:
        await server.get("ConfigMap", "team", "demo")
    return caught.value


@pytest.mark.parametrize(
    ("status", "body", "content_type"),
    [
        (429, "Too many requests, please try again later.\n", "text/plain"),
        (502, "<html><h1>Bad Gateway</h1></html>", "text/html"),
        (503, "", "text/plain"),
        (500, "null", "application/json"),
        (500, "[1]", "application/json"),
        (403, '{"message": 7}', "application/json"),
        (422, json.dumps({"kind": "Status", "message": "not a DNS-1035 label"}), "application/json"),
    ],
)
async def test_finding_05_every_answer_that_is_none_is_an_api_error(status: int, body: str, content_type: str) -> None:
    async with served(answering(status, body, content_type=content_type)) as server:
        error = await refusal(server)
    assert error.status == status
    assert error.passing == (status == 429 or status >= 500)


@pytest.mark.parametrize("body", ["<html>a load balancer's page</html>", "[]", '"text"', "{", "\ufffd"])
async def test_finding_05_success_that_is_no_object_is_no_success(body: str) -> None:
    async with served(answering(200, body)) as server:
        error = await refusal(server)
    assert (error.status, error.passing) == (0, True)


async def test_finding_05_a_connection_that_ends_is_an_api_error() -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    async with served(handler) as server:
        assert (await refusal(server)).status == 0


async def test_finding_05_nobody_there_is_an_api_error() -> None:
    configuration = client.Configuration()
    configuration.host = "http://127.0.0.1:1"
    server = ApiServer(client.ApiClient(configuration))
    assert (await refusal(server)).status == 0
    await server.close()


async def test_finding_05_silence_is_an_api_error(monkeypatch: pytest.MonkeyPatch) -> None:
    async def handler(_: web.Request) -> web.StreamResponse:
        await asyncio.sleep(3600)
        return web.Response()

    monkeypatch.setattr(api_server, "REQUEST_TIMEOUT_S", 0.2)
    async with served(handler) as server:
        assert (await refusal(server)).status == 0


async def test_finding_05_half_an_answer_is_an_api_error(monkeypatch: pytest.MonkeyPatch) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "100"})
        await response.prepare(request)
        await response.write(b'{"a":')
        assert request.transport is not None
        request.transport.abort()
        return response

    monkeypatch.setattr(api_server, "REQUEST_TIMEOUT_S", 1.0)
    async with served(handler) as server:
        assert (await refusal(server)).status == 0


async def test_finding_05_retry_after_is_obeyed() -> None:
    asked: list[float] = []

    async def handler(_: web.Request) -> web.StreamResponse:
        asked.append(asyncio.get_running_loop().time())
        if len(asked) == 1:
            return web.Response(status=429, text="later", headers={"Retry-After": "1"})
        return web.json_response(CONFIG_MAP)

    async with served(handler) as server:
        assert await server.get("ConfigMap", "team", "demo") == CONFIG_MAP
    assert asked[1] - asked[0] >= 1.0


async def test_finding_05_a_long_retry_after_is_left_to_whoever_asked() -> None:
    async with served(answering(429, "later", **{"Retry-After": "120"})) as server:
        error = await refusal(server)
    assert (error.status, error.retry_after_s) == (429, 120.0)


async def test_missing_is_none() -> None:
    body = json.dumps({"kind": "Status", "message": "not found"})
    async with served(answering(404, body, content_type="application/json")) as server:
        assert await server.get("ConfigMap", "team", "demo") is None
        assert await server.delete("ConfigMap", "team", "demo", uid="u") is None


async def test_an_apply_means_exactly_one_object() -> None:
    bodies: list[Any] = []

    async def handler(request: web.Request) -> web.StreamResponse:
        bodies.append(json.loads(await request.text()))
        return web.json_response(CONFIG_MAP)

    async with served(handler) as server:
        await server.apply(CONFIG_MAP, "u1")
        await server.apply(CONFIG_MAP)
    assert [body["metadata"].get("uid") for body in bodies] == ["u1", None]


async def test_finding_16_a_replica_that_no_longer_leads_writes_nothing() -> None:
    asked: list[str] = []

    async def handler(request: web.Request) -> web.StreamResponse:
        asked.append(request.method)
        return web.json_response(CONFIG_MAP)

    async with served(handler) as server:
        server.fence()
        for write in (
            server.apply(CONFIG_MAP),
            server.delete("Pod", "team", "demo", uid="u"),
            server.write_status("team", "demo", {}),
            server.set_finalizers({"kind": "AutoMQCluster", "metadata": {"resourceVersion": "1"}}, []),
        ):
            with pytest.raises(ApiError):
                await write
        assert asked == []
        await server.replace({"kind": "Lease", "metadata": {"name": "lease", "namespace": "system"}})
        assert asked == ["PUT"], "it may still give the Lease back"
