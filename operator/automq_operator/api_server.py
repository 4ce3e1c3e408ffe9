"""Adapter: the Kubernetes API as plain dictionaries, over `kubernetes.aio`.

No discovery and no typed models: both cost memory. Whatever goes wrong is an `ApiError`: a refusal, an answer that is
not the API server's (a load balancer's page), a connection that ends, no answer in time. Nothing else leaves here.
"""

import asyncio
import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

import aiohttp
from kubernetes.aio import client, config

from automq_operator import api, naming
from automq_operator.kinds import KINDS

Manifest = Mapping[str, Any]

REQUEST_TIMEOUT_S: Final = 15.0
"""For a request with all its repetitions: every wait for the API server ends."""
RETRY_AFTER_MAX_S: Final = 5.0
"""A longer `Retry-After` is left to whoever asked."""
PARALLEL_MAX: Final = 16
"""Requests in flight: an operator that starts over many clusters is not the storm that the API server sheds."""
MESSAGE_CHARACTERS_MAX: Final = 512

THROTTLED: Final = (429, 503)
APPLY: Final = "application/apply-patch+yaml"


class ApiError(Exception):
    """What became of a request that was not carried out. `status` is 0 when there was no answer of the API server."""

    def __init__(self, *, status: int, message: str, what: str, retry_after_s: float | None = None) -> None:
        super().__init__(f"{what}: {status} {message}" if status else f"{what}: no answer: {message}")
        self.status, self.message, self.what, self.retry_after_s = status, message, what, retry_after_s

    @property
    def passing(self) -> bool:
        """The same request may well succeed a little later."""
        return self.status == 0 or self.status in (409, 429) or self.status >= 500


async def load_config() -> None:
    """In a pod its ServiceAccount, else the kubeconfig."""
    try:
        config.load_incluster_config()  # type: ignore[no-untyped-call]
    except config.ConfigException:
        await config.load_kube_config()  # type: ignore[no-untyped-call]


class ApiServer:
    """A few verbs on a few kinds."""

    def __init__(self, connection: client.ApiClient | None = None) -> None:
        self._client = connection or client.ApiClient()
        self._places = asyncio.Semaphore(PARALLEL_MAX)
        self._fenced = False
        self.writes = 0
        """Requests that could change a cluster (the Lease does not count): an unchanged cluster causes none."""

    def fence(self) -> None:
        """Another replica leads from now on: nothing of a cluster is written any more, whatever is still under way."""
        self._fenced = True

    def check_leading(self, what: str) -> None:
        """Raises ApiError once another replica leads: nothing is changed any more, on whichever way."""
        if self._fenced:
            raise ApiError(status=0, message="this replica no longer leads", what=what)

    def _count_write(self, what: str) -> None:
        self.check_leading(what)
        self.writes += 1

    async def close(self) -> None:
        """Close connections."""
        await self._client.close()  # type: ignore[no-untyped-call]

    async def get(self, kind: str, namespace: str, name: str) -> Manifest | None:
        """One object, None when there is none."""
        return await self._missing_is_none("GET", f"{_path(kind, namespace)}/{name}")

    async def list(self, kind: str, namespace: str | None, selector: str = "") -> list[Manifest]:
        """Objects by label, of one namespace or of all."""
        query = {"labelSelector": selector} if selector else {}
        answer = await self._request("GET", _path(kind, namespace), query=query)
        items: list[Manifest] = answer.get("items") or []
        return items

    async def apply(self, manifest: Manifest, uid: str | None = None) -> Manifest:
        """Server-side apply of everything this operator wants in the object; the object as it is then.

        With a uid exactly that object is meant: refused (409) when it is gone or another has its name.
        """
        self._count_write("apply")
        metadata = manifest["metadata"] | ({"uid": uid} if uid is not None else {})
        manifest = {**manifest, "metadata": metadata}
        path = f"{_path(manifest['kind'], metadata['namespace'])}/{metadata['name']}"
        query = {"fieldManager": naming.FIELD_MANAGER, "force": "true"}
        return await self._request("PATCH", path, query=query, body=manifest, content_type=APPLY)

    async def set_finalizers(self, body: Manifest, finalizers: Sequence[str]) -> Manifest:
        """Replace the finalizers of exactly this version of a resource; refused (409) when it has changed."""
        self._count_write("set finalizers")
        metadata = body["metadata"]
        patch = {"metadata": {"resourceVersion": metadata["resourceVersion"], "finalizers": list(finalizers)}}
        path = f"{_path(body['kind'], metadata['namespace'])}/{metadata['name']}"
        return await self._request("PATCH", path, body=patch, content_type="application/merge-patch+json")

    async def set_labels(
        self, kind: str, namespace: str, name: str, *, uid: str, labels: Mapping[str, str | None]
    ) -> Manifest:
        """Set labels, or take those away that are None; of exactly this object, refused (409) where it is another."""
        self._count_write("set labels")
        patch = {"metadata": {"uid": uid, "labels": dict(labels)}}
        path = f"{_path(kind, namespace)}/{name}"
        return await self._request("PATCH", path, body=patch, content_type="application/merge-patch+json")

    async def create(self, manifest: Manifest) -> None:
        """Create; refused (409) when there is one of that name."""
        await self._request("POST", _path(manifest["kind"], manifest["metadata"]["namespace"]), body=manifest)

    async def replace(self, manifest: Manifest) -> None:
        """Replace exactly the version that the manifest names; refused (409) when it has changed."""
        metadata = manifest["metadata"]
        await self._request(
            "PUT", f"{_path(manifest['kind'], metadata['namespace'])}/{metadata['name']}", body=manifest
        )

    async def delete(
        self, kind: str, namespace: str, name: str, *, uid: str, grace_s: int | None = None, foreground: bool = False
    ) -> Manifest | None:
        """Delete exactly this object; the object as it ends, or None when it is gone.

        Another of its name is not touched and no error: the next look finds it.
        """
        self._count_write("delete")
        policy = "Foreground" if foreground else "Background"
        body: dict[str, Any] = {"preconditions": {"uid": uid}, "propagationPolicy": policy}
        if grace_s is not None:
            body["gracePeriodSeconds"] = grace_s
        try:
            answer = await self._request("DELETE", f"{_path(kind, namespace)}/{name}", body=body)
        except ApiError as error:
            if error.status not in (404, 409):
                raise
            return None
        return answer if "deletionTimestamp" in (answer.get("metadata") or {}) else None

    async def write_status(
        self, namespace: str, name: str, status: Mapping[str, Any], *, kind: str = api.KIND
    ) -> Manifest:
        """The status of a custom resource, whole, under its own field manager; the resource as it is then."""
        self._count_write("write status")
        body = {
            "apiVersion": f"{api.GROUP}/{api.VERSION}",
            "kind": kind,
            "metadata": {"name": name, "namespace": namespace},
            "status": status,
        }
        query = {"fieldManager": naming.STATUS_FIELD_MANAGER, "force": "true"}
        path = f"{_path(kind, namespace)}/{name}/status"
        return await self._request("PATCH", path, query=query, body=body, content_type=APPLY)

    async def _missing_is_none(self, method: str, path: str) -> Manifest | None:
        try:
            return await self._request(method, path)
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    async def _request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Manifest | None = None,
        content_type: str = "application/json",
    ) -> dict[str, Any]:
        what = f"{method} {path}"
        try:
            async with asyncio.timeout(REQUEST_TIMEOUT_S), self._places:
                while True:
                    try:
                        return await self._once(method, path, query or {}, body, content_type)
                    except ApiError as error:
                        wait_s = error.retry_after_s
                        if error.status not in THROTTLED or wait_s is None or wait_s > RETRY_AFTER_MAX_S:
                            raise
                    await asyncio.sleep(wait_s)
        except TimeoutError as error:
            message = f"nothing for {REQUEST_TIMEOUT_S:.0f} s"
            raise ApiError(status=0, message=message, what=what) from error
        # ValueError: a body that is no JSON or no text. The client's own exceptions are for tokens and headers.
        except (aiohttp.ClientError, client.OpenApiException, config.ConfigException, OSError, ValueError) as error:
            message = f"{type(error).__name__}: {error}"[:MESSAGE_CHARACTERS_MAX]
            raise ApiError(status=0, message=message, what=what) from error

    async def _once(
        self, method: str, path: str, query: Mapping[str, str], body: Manifest | None, content_type: str
    ) -> dict[str, Any]:
        request = await self._client.param_serialize(
            method,
            path,
            query_params=list(query.items()),
            header_params={"Accept": "application/json", "Content-Type": content_type},
            body=body,
            auth_settings=["BearerToken"],
        )
        answer = await self._client.call_api(*request, _request_timeout=REQUEST_TIMEOUT_S)
        text = await answer.read()  # type: ignore[no-untyped-call]
        if 200 <= answer.status <= 299:
            decoded = json.loads(text) if text else {}
            if not isinstance(decoded, dict):
                raise ValueError(f"{answer.status} with a body that is no object")
            return decoded
        headers = answer.getheaders()  # type: ignore[no-untyped-call]
        raise ApiError(
            status=answer.status,
            message=_message(text),
            what=f"{method} {path}",
            retry_after_s=_retry_after(headers.get("Retry-After") if headers is not None else None),
        )


def _message(text: bytes) -> str:
    """A Status object's message, or what else the answer says: who answers in between does not speak JSON."""
    try:
        decoded = json.loads(text)
        return str(decoded["message"])
    except (ValueError, KeyError, TypeError):
        return " ".join(text.decode(errors="replace").split())[:MESSAGE_CHARACTERS_MAX]


def _retry_after(value: str | None) -> float | None:
    """Seconds; the header's other form, a date, the API server does not use."""
    return float(value) if value is not None and value.strip().isdecimal() else None


def _path(kind: str, namespace: str | None) -> str:
    place = KINDS[kind]
    middle = f"/namespaces/{namespace}" if place.namespaced and namespace is not None else ""
    return f"{place.path}{middle}/{place.plural}"
