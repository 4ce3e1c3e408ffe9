"""Adapter: the Kubernetes API as plain dictionaries, over `kubernetes.aio`.

No discovery and no typed models: both cost memory.
"""

import json
from collections.abc import Mapping
from typing import Any, Final

from kubernetes.aio import client, config

from automq_operator import api, naming
from automq_operator.kinds import KINDS

Manifest = Mapping[str, Any]

REQUEST_TIMEOUT_S: Final = 15


class ApiError(Exception):
    """The API server's refusal, in its own words."""

    def __init__(self, *, status: int, message: str, what: str) -> None:
        super().__init__(f"{what}: {status} {message}")
        self.status, self.message, self.what = status, message, what


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
        self.writes = 0
        """Requests that could change a cluster (the Lease does not count): an unchanged cluster causes none."""

    async def close(self) -> None:
        """Let go of connections."""
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

    async def apply(self, manifest: Manifest) -> None:
        """Server-side apply of everything this operator wants in the object."""
        self.writes += 1
        metadata = manifest["metadata"]
        path = f"{_path(manifest['kind'], metadata['namespace'])}/{metadata['name']}"
        query = {"fieldManager": naming.FIELD_MANAGER, "force": "true"}
        await self._request("PATCH", path, query=query, body=manifest, content_type="application/apply-patch+yaml")

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
    ) -> None:
        """Delete exactly this object; one that is gone, or another of its name, is no error."""
        self.writes += 1
        policy = "Foreground" if foreground else "Background"
        body: dict[str, Any] = {"preconditions": {"uid": uid}, "propagationPolicy": policy}
        if grace_s is not None:
            body["gracePeriodSeconds"] = grace_s
        try:
            await self._request("DELETE", f"{_path(kind, namespace)}/{name}", body=body)
        except ApiError as error:
            if error.status not in (404, 409):
                raise

    async def write_status(self, namespace: str, name: str, status: Mapping[str, Any]) -> None:
        """The status of an AutoMQCluster, whole, under its own field manager."""
        self.writes += 1
        body = {
            "apiVersion": f"{api.GROUP}/{api.VERSION}",
            "kind": api.KIND,
            "metadata": {"name": name, "namespace": namespace},
            "status": status,
        }
        query = {"fieldManager": naming.STATUS_FIELD_MANAGER, "force": "true"}
        path = f"{_path(api.KIND, namespace)}/{name}/status"
        await self._request("PATCH", path, query=query, body=body, content_type="application/apply-patch+yaml")

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
        request = await self._client.param_serialize(
            method,
            path,
            query_params=list((query or {}).items()),
            header_params={"Accept": "application/json", "Content-Type": content_type},
            body=body,
            auth_settings=["BearerToken"],
        )
        answer = await self._client.call_api(*request, _request_timeout=REQUEST_TIMEOUT_S)
        text = await answer.read()  # type: ignore[no-untyped-call]
        decoded: dict[str, Any] = json.loads(text) if text else {}
        if not 200 <= answer.status <= 299:
            message = decoded.get("message", "")
            raise ApiError(status=answer.status, message=message, what=f"{method} {path}")
        return decoded


def _path(kind: str, namespace: str | None) -> str:
    place = KINDS[kind]
    middle = f"/namespaces/{namespace}" if place.namespaced and namespace is not None else ""
    return f"{place.path}{middle}/{place.plural}"
