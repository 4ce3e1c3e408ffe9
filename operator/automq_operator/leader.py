"""Lease leader election: of two replicas one works; the other takes over in seconds, at once after an orderly end.

The Lease's resourceVersion decides: a replace with an old one is refused (409), so two replicas can never both succeed.
A holder is given up only when its Lease has not changed for the Lease's time by our own monotonic clock; wall clocks
are not compared. (The client library has an elector, whose Lease lock cannot create a Lease in this release.)
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any, Final

from automq_operator import runtime
from automq_operator.api_server import ApiError, ApiServer, Manifest

log = logging.getLogger(__name__)

LEASE_S: Final = 15
RENEW_DEADLINE_S: Final = 10
RETRY_S: Final = 2
RELEASE_S: Final = 5
"""The pod's grace is 20 s; a Lease that is not released ends by itself."""


class Elector:
    """One replica's side of the election."""

    def __init__(
        self,
        server: ApiServer,
        *,
        namespace: str,
        name: str,
        identity: str,
        answered: Callable[[], None] = lambda: None,
    ) -> None:
        """`answered` is called whenever the API server has answered something."""
        self._server, self._namespace, self._name, self._identity = server, namespace, name, identity
        self._answered = answered
        self._seen: object = None
        self._seen_at = 0.0

    async def lead(
        self, work: Callable[[], Coroutine[Any, Any, None]], *, lost: Callable[[], None] = lambda: None
    ) -> None:
        """Wait for the Lease, run `work` until it ends or the Lease is lost, give the Lease back.

        `lost` is called in the turn in which the Lease is found to be lost, before `work` is asked to end.
        """
        while not await self._attempt():  # noqa: ASYNC110 - an API server has no event to wait for
            await asyncio.sleep(RETRY_S)
        working = asyncio.get_running_loop().create_task(work())
        keeping = asyncio.get_running_loop().create_task(self._keep())
        try:
            await asyncio.wait({working, keeping}, return_when=asyncio.FIRST_COMPLETED)
            if keeping.done():
                lost()
                log.warning("lease lost")
            if working.done():
                working.result()
        finally:
            keeping.cancel()
            working.cancel()
            await asyncio.gather(working, keeping, return_exceptions=True)
            await self._release()

    async def _keep(self) -> None:
        """Renew until that has failed for the deadline, which ends an attempt in flight too.

        A renewal counts from its beginning: the Lease may have been written at any time since.
        """
        renewed_at = runtime.monotonic()
        while (left_s := renewed_at + RENEW_DEADLINE_S - runtime.monotonic()) > 0:
            began_at = runtime.monotonic()
            try:
                async with asyncio.timeout(left_s):
                    await asyncio.sleep(RETRY_S)
                    began_at = runtime.monotonic()
                    renewed = await self._attempt()
            except TimeoutError:
                log.warning("lease not renewed: no answer in time")
                return
            if renewed:
                renewed_at = began_at

    async def _attempt(self) -> bool:
        """Take or renew the Lease; False when another has it or the API server does not answer."""
        try:
            lease = await self._server.get("Lease", self._namespace, self._name)
            self._answered()
            if lease is None:
                await self._server.create(self._manifest({}, transitions=0))
                return True
            spec = lease.get("spec") or {}
            if not self._free(spec):
                return False
            mine = spec.get("holderIdentity") == self._identity
            transitions = (spec.get("leaseTransitions") or 0) + (0 if mine else 1)
            await self._server.replace(self._manifest(lease["metadata"], transitions=transitions))
        except ApiError as error:
            if error.status != 0:
                self._answered()
            log.info("lease not taken: %s", error)
            return False
        except Exception:
            log.exception("lease not taken")
            return False
        return True

    def _free(self, spec: Manifest) -> bool:
        """Ours, nobody's, or unchanged for its whole time."""
        holder = spec.get("holderIdentity")
        if holder in (None, "", self._identity):
            return True
        seen = (holder, spec.get("renewTime"), spec.get("leaseTransitions"))
        if seen != self._seen:
            self._seen, self._seen_at = seen, runtime.monotonic()
            return False
        return runtime.monotonic() - self._seen_at > (spec.get("leaseDurationSeconds") or LEASE_S)

    def _manifest(self, metadata: Manifest, *, transitions: int, holder: str | None = None) -> Manifest:
        now = runtime.wall_time().strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        kept = {"resourceVersion": metadata["resourceVersion"]} if "resourceVersion" in metadata else {}
        return {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": self._name, "namespace": self._namespace, **kept},
            "spec": {
                "holderIdentity": self._identity if holder is None else holder,
                "leaseDurationSeconds": LEASE_S,
                "leaseTransitions": transitions,
                "acquireTime": now,
                "renewTime": now,
            },
        }

    async def _release(self) -> None:
        """An empty holder lets the other replica begin at its next look instead of after the Lease's time."""
        try:
            async with asyncio.timeout(RELEASE_S):
                lease = await self._server.get("Lease", self._namespace, self._name)
                spec = (lease or {}).get("spec") or {}
                if lease is not None and spec.get("holderIdentity") == self._identity:
                    transitions = spec.get("leaseTransitions") or 0
                    await self._server.replace(self._manifest(lease["metadata"], transitions=transitions, holder=""))
        except (ApiError, TimeoutError) as error:
            log.warning("lease not released, it ends by itself: %s", error)
