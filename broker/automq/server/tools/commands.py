"""Commands that work on a store and end: doctor, fsck, repair, erase, dump."""

import asyncio
import contextlib
import logging
import pathlib
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Final, TypeVar

from automq.ids import ClusterId
from automq.metadata.erase import Erasure, erase, erase_owned
from automq.metadata.patience import Patience
from automq.metadata.refusal import StoreClusterMissing, StoreOwnedByAnother
from automq.runtime.clock import SystemClock
from automq.runtime.entropy import SystemEntropy
from automq.runtime.tasks import Tasks
from automq.runtime.workers import ThreadWorkers
from automq.s3stream.model import FormatTooNew, StoreDamaged
from automq.s3stream.ports import ObjectNotFound, ObjectStorage, StoreError
from automq.s3stream.store.doctor import DoctorReport, run_doctor
from automq.s3stream.store.uri import InvalidStoreUri, StoreUri, open_store, parse_store_uri
from automq.server.config.settings import InvalidSettings
from automq.server.lifecycle.refusals import format_refusal, store_refusal
from automq.server.lifecycle.states import Reason, Refused
from automq.server.tools.examination import Examination
from automq.server.tools.findings import Report
from automq.server.tools.inspection import Inspection, KeyLine, NotOurs, inspect, key_line
from automq.server.tools.repair import Named
from automq.server.tools.repairer import Repairer

log = logging.getLogger(__name__)

T = TypeVar("T")

PAGE_KEYS: Final = 1000


class NothingToShow(Exception):
    """There is no such object, or it is not what this program writes; the message names it."""


def examine(uri: str, credentials: pathlib.Path | None) -> DoctorReport:
    """The doctor's report. Raises Refused."""

    async def work(store: ObjectStorage) -> DoctorReport:
        return await run_doctor(store, name=uri, clock=SystemClock(), entropy=SystemEntropy())

    return with_store(uri, credentials, work)


def examine_store(uri: str, credentials: pathlib.Path | None, *, deep: bool) -> Report:
    """What of a cluster's data is damaged or missing. Raises Refused."""
    entropy = SystemEntropy()

    async def work(store: ObjectStorage) -> Report:
        tasks = Tasks("fsck", on_crash=lambda _name, _error: None)
        patience = Patience(entropy=entropy, on_store=_raise_unavailable)
        try:
            examination = Examination(store=store, name=uri, entropy=entropy, tasks=tasks, patience=patience, deep=deep)
            return await examination.run()
        finally:
            await tasks.close()

    return with_store(uri, credentials, work)


def repair_store(uri: str, credentials: pathlib.Path | None, *, named: Named, by: str, dry_run: bool) -> Sequence[str]:
    """Record what is named as lost or mended; what was, or would be, recorded. Raises Refused, RepairRefused."""

    async def work(store: ObjectStorage) -> Sequence[str]:
        tasks = Tasks("repair", on_crash=lambda _name, _error: None)
        try:
            return await Repairer(
                store=store,
                name=uri,
                clock=SystemClock(),
                entropy=SystemEntropy(),
                tasks=tasks,
                on_store=_raise_unavailable,
            ).run(named, by=by, dry_run=dry_run)
        finally:
            await tasks.close()

    with refusing_prefixes(uri):
        return with_store(uri, credentials, work)


def erase_cluster(
    uri: str,
    credentials: pathlib.Path | None,
    *,
    cluster_id: str | None,
    owner: str | None,
    on_progress: Callable[[int], None],
) -> Erasure:
    """Remove a cluster: the one named, or without `cluster_id` the one that `owner` owns. Raises Refused."""
    entropy = SystemEntropy()

    async def work(store: ObjectStorage) -> Erasure:
        tasks = Tasks("erase", on_crash=lambda _name, _error: None)
        patience = Patience(entropy=entropy, on_store=_raise_unavailable)
        try:
            if cluster_id is None:
                assert owner is not None, "one of the two is named"
                return await erase_owned(
                    store=store,
                    owner=owner,
                    clock=SystemClock(),
                    entropy=entropy,
                    tasks=tasks,
                    patience=patience,
                    on_progress=on_progress,
                )
            named = ClusterId(cluster_id)
            keys = await erase(
                store=store,
                cluster_id=named,
                owner=owner,
                clock=SystemClock(),
                entropy=entropy,
                tasks=tasks,
                patience=patience,
                on_progress=on_progress,
            )
            return Erasure(cluster_id=named, keys=keys)
        finally:
            await tasks.close()

    with refusing_prefixes(uri):
        return with_store(uri, credentials, work)


@contextlib.contextmanager
def refusing_prefixes(uri: str) -> Iterator[None]:
    """What a prefix is refused for, as a command ends with it. Raises Refused."""
    try:
        yield
    except StoreClusterMissing as error:
        raise Refused(Reason.STORE_CLUSTER_MISSING, f"{uri}: {error}") from error
    except StoreOwnedByAnother as error:
        raise Refused(Reason.STORE_OWNED_BY_ANOTHER, f"{uri}: {error}") from error
    except StoreDamaged as error:
        raise Refused(Reason.STORE_DAMAGED, f"{uri}: {error}") from error


def _raise_unavailable(error: StoreError | None) -> None:
    """A command that somebody waits for does not wait for a store: it can be run again, and goes on where it was."""
    if error is not None:
        raise error


def show(what: str, key: str | None, credentials: pathlib.Path | None) -> Inspection:
    """What is in a file, or in an object of a store. Raises Refused, NothingToShow."""
    if key is None:
        try:
            return _inspect(what, pathlib.Path(what).read_bytes())
        except OSError as error:
            raise NothingToShow(f"{what} cannot be read: {error.strerror}") from error

    async def work(store: ObjectStorage) -> bytes:
        return await store.get(key)

    try:
        return _inspect(key, with_store(what, credentials, work))
    except ObjectNotFound as error:
        raise NothingToShow(f"there is no {key} in {what}") from error


def list_keys(uri: str, credentials: pathlib.Path | None, on_page: Callable[[Sequence[KeyLine]], None]) -> None:
    """Every key of a store, page by page, in byte order. Raises Refused."""

    async def work(store: ObjectStorage) -> None:
        start_after = ""
        while True:
            infos = await store.list("", start_after=start_after, limit=PAGE_KEYS)
            on_page([key_line(info) for info in infos])
            if len(infos) < PAGE_KEYS:
                return
            start_after = infos[-1].key

    with_store(uri, credentials, work)


def _inspect(name: str, data: bytes) -> Inspection:
    try:
        return inspect(name, data)
    except (NotOurs, StoreDamaged) as error:
        raise NothingToShow(str(error)) from error


def with_store(uri: str, credentials: pathlib.Path | None, work: Callable[[ObjectStorage], Awaitable[T]]) -> T:
    """Run `work` on the store of that URI, in an event loop of its own. Raises Refused for what the store answers."""
    try:
        parsed = parse_store_uri(uri)
    except InvalidStoreUri as error:
        raise InvalidSettings("URI", str(error)) from error
    try:
        return asyncio.run(_with_open_store(parsed, credentials, work))
    except ObjectNotFound:
        raise
    except StoreError as error:
        raise store_refusal(error, uri) from error
    except FormatTooNew as error:
        raise format_refusal(error, uri) from error


async def _with_open_store(
    uri: StoreUri, credentials: pathlib.Path | None, work: Callable[[ObjectStorage], Awaitable[T]]
) -> T:
    workers = ThreadWorkers()
    folder = None if credentials is None else str(credentials)
    store = open_store(uri, workers=workers, entropy=SystemEntropy(), credentials_folder=folder)
    try:
        return await work(store)
    finally:
        try:
            await store.close()
        except StoreError as error:
            # Of what the command came for nothing is lost.
            log.warning("the store was not closed tidily", extra={"why": str(error)})
        workers.close()
