"""Requests to an S3 server, one by one: tried again where they may be, told of to who counts them."""

import asyncio
import contextvars
import http.client
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, TypeVar

import obstore
import obstore.exceptions

from automq.runtime.backoff import Backoff
from automq.runtime.entropy import Entropy
from automq.runtime.workers import Workers
from automq.s3stream.ports import Buffer, StoreConflict, StoreCredentialsRejected, StoreError, StoreUnavailable
from automq.s3stream.store.handoff import run_interruptibly
from automq.s3stream.store.requests import (
    Operation,
    Purpose,
    Request,
    RequestListener,
    RequestOutcome,
    operation_of,
    outcome_of,
    purpose_of,
)
from automq.s3stream.store.s3_checksums import Checksum
from automq.s3stream.store.s3_clients import S3Clients, bulk_answer, translated
from automq.s3stream.store.s3_credentials import Credential, CredentialSource
from automq.s3stream.store.s3_errors import HurtRequest, answer_of_body, error_of
from automq.s3stream.store.s3_receiver import BodyReceiver
from automq.s3stream.store.s3_sender import SentBody
from automq.s3stream.store.s3_wire import Transfer

T = TypeVar("T")

# Tries of operations that may be done twice; about a second altogether.
TRIES: Final = 3
# Of one request through aiobotocore, body and all: a connection that swallows what is sent has no other end.
EXACT_TIMEOUT_S: Final = 30.0
# To a range that begins at the object's end or beyond.
RANGE_NOT_SATISFIABLE: Final = 416

_purpose: contextvars.ContextVar[Purpose] = contextvars.ContextVar("automq_s3_purpose", default=Purpose.METADATA)


class S3Requests:
    """Every request of one store goes through here. Names are whole: the prefix and the key."""

    def __init__(
        self, clients: S3Clients, source: CredentialSource, *, bucket: str, prefix: str, entropy: Entropy
    ) -> None:
        self.bucket = bucket
        self.prefix = prefix
        self._clients = clients
        self._source = source
        self._entropy = entropy
        self._listeners: list[RequestListener] = []
        clients.on_request = self._on_exact

    def listen(self, listener: RequestListener) -> None:
        """`listener` hears of each request from now on."""
        self._listeners.append(listener)

    def place(self, name: str) -> str:
        """For messages."""
        return f"s3://{self.bucket}/{name}"

    async def ask(self, operation: str, *, about: str, **arguments: Any) -> Any:
        """One request through botocore, about a name or a prefix: its answer, parsed."""
        client = await self._clients.exact()
        token = _purpose.set(self._purpose(Operation.LIST_OBJECTS, about))
        try:
            async with asyncio.timeout(EXACT_TIMEOUT_S):
                return await getattr(client, operation)(Bucket=self.bucket, **arguments)
        finally:
            _purpose.reset(token)

    async def read(self, name: str, start: int | None, end: int | None) -> tuple[Buffer, str]:
        """One GET through obstore: the bytes, whole or [start, end), and the object's ETag where all was read."""
        bulk, _ = await self._clients.bulk()
        outcome, received = RequestOutcome.NO_ANSWER, 0
        try:
            tag = ""
            data: Buffer
            if start is None or end is None:
                found = await obstore.get_async(bulk, name)
                data, tag = memoryview(await found.bytes_async()), found.meta["e_tag"] or ""
            else:
                data = memoryview(await obstore.get_range_async(bulk, name, start=start, end=end))
            outcome, received = RequestOutcome.SUCCESS, len(data)
            return data, tag
        except (obstore.exceptions.BaseError, FileNotFoundError) as error:
            answer = bulk_answer(error)
            if answer is not None:
                outcome = outcome_of(answer.status)
                if answer.status == RANGE_NOT_SATISFIABLE:
                    return b"", ""
            raise
        finally:
            self.report(Operation.GET_OBJECT, name, outcome, received_bytes=received)

    async def send(
        self,
        what: str,
        name: str,
        body: Sequence[memoryview],
        *,
        checksum: Checksum,
        query: Mapping[str, Any],
        headers: Mapping[str, str],
    ) -> SentBody:
        """One PUT of a large body; raises the port's error for an answer that is none of success."""
        sender, workers = await self._clients.sender()
        credential = await self._source.current()
        transfer = Transfer()
        outcome = RequestOutcome.NO_ANSWER
        received = 0
        try:
            sent = await run_interruptibly(
                workers,
                transfer.break_off,
                sender.put,
                transfer,
                name,
                body,
                credential=credential,
                checksum=checksum,
                query=query,
                headers=headers,
            )
            outcome, received = outcome_of(sent.answer.status), len(sent.answer.body)
        except http.client.HTTPException as error:
            raise StoreUnavailable(f"{what}: no answer: {str(error) or type(error).__name__}") from error
        finally:
            operation = Operation.UPLOAD_PART if query else Operation.PUT_OBJECT
            self.report(operation, name, outcome, sent_bytes=transfer.sent_bytes, received_bytes=received)
        if outcome is not RequestOutcome.SUCCESS:
            raise error_of(answer_of_body(sent.answer.status, sent.answer.body), what)
        return sent

    async def receiver(self) -> tuple[BodyReceiver, Workers, Credential]:
        """What takes one large body, the threads to do it in, and what to sign with now."""
        receiver, workers = await self._clients.receiver()
        return receiver, workers, await self._source.current()

    async def retrying(
        self,
        what: str,
        operation: Callable[[], Awaitable[T]],
        *,
        again_on: tuple[type[StoreError], ...] = (StoreUnavailable, StoreConflict, HurtRequest),
    ) -> T:
        """For what may be done twice; the errors of `again_on` may go by themselves."""
        backoff = Backoff(entropy=self._entropy, first_s=0.1, max_s=1.0)
        while True:
            try:
                return await self.once(what, operation)
            except again_on:
                if backoff.attempts == TRIES - 1:
                    raise
            await asyncio.sleep(backoff.next_s())

    async def once(self, what: str, operation: Callable[[], Awaitable[T]]) -> T:
        """One try; a second one when the store refused credentials that have changed meanwhile: it did nothing then."""
        used = await self._source.current()
        try:
            async with translated(what):
                return await operation()
        except StoreCredentialsRejected:
            if not await self._source.refused(used):
                raise
        async with translated(what):
            return await operation()

    def _on_exact(self, method: str, query: str, status: int | None, sent_bytes: int, received_bytes: int) -> None:
        outcome = outcome_of(status) if status is not None else RequestOutcome.NO_ANSWER
        for listener in self._listeners:
            listener(
                Request(
                    operation=operation_of(method, query),
                    purpose=_purpose.get(),
                    outcome=outcome,
                    sent_bytes=sent_bytes,
                    received_bytes=received_bytes,
                )
            )

    def report(
        self,
        operation: Operation,
        name: str,
        outcome: RequestOutcome,
        *,
        sent_bytes: int = 0,
        received_bytes: int = 0,
        count: int = 1,
    ) -> None:
        """A request was made, and is over; or, with a `count` of 0, what came of one that was told of before."""
        for listener in self._listeners:
            listener(
                Request(
                    operation=operation,
                    purpose=self._purpose(operation, name),
                    outcome=outcome,
                    sent_bytes=sent_bytes,
                    received_bytes=received_bytes,
                    count=count,
                )
            )

    def _purpose(self, operation: Operation, name: str) -> Purpose:
        return purpose_of(operation, name.removeprefix(self.prefix))
