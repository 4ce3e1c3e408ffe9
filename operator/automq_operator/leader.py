"""Lease leader election: of two replicas one works; the other takes over in seconds, at once after an orderly end."""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any, Final

from kubernetes.aio import client
from kubernetes.aio.client.exceptions import ApiException
from kubernetes.aio.leaderelection.electionconfig import Config
from kubernetes.aio.leaderelection.leaderelection import LeaderElection
from kubernetes.aio.leaderelection.resourcelock.leaselock import LeaseLock

log = logging.getLogger(__name__)

LEASE_S: Final = 15.0
RENEW_DEADLINE_S: Final = 10.0
RETRY_S: Final = 2.0


async def lead(
    connection: client.ApiClient,
    *,
    namespace: str,
    name: str,
    identity: str,
    work: Callable[[], Coroutine[Any, Any, None]],
) -> None:
    """Wait for the Lease, then run `work` until it ends or the Lease is lost. Gives the Lease back in either case."""
    lock = LeaseLock(name, namespace, identity, connection)

    async def lost() -> None:
        log.warning("lease lost")

    settings = Config(
        lock,
        lease_duration=LEASE_S,
        renew_deadline=RENEW_DEADLINE_S,
        retry_period=RETRY_S,
        onstarted_leading=work,
        onstopped_leading=lost,
    )
    try:
        await LeaderElection(settings).run()
    finally:
        await asyncio.shield(_release(connection, namespace=namespace, name=name, identity=identity))


async def _release(connection: client.ApiClient, *, namespace: str, name: str, identity: str) -> None:
    """An empty holder lets the other replica begin at once instead of after the Lease's time."""
    leases = client.CoordinationV1Api(connection)
    try:
        lease = await leases.read_namespaced_lease(name, namespace)
        if lease.spec is not None and lease.spec.holder_identity == identity:
            lease.spec.holder_identity = ""
            lease.spec.lease_duration_seconds = 1
            await leases.replace_namespaced_lease(name, namespace, lease)
    except (ApiException, OSError, TimeoutError) as error:
        log.warning("lease not released, it ends by itself", extra={"error": str(error)})
