"""A long range of an object in S3, read piece by piece by one GET; what breaks off goes on from there by another."""

import http.client
from typing import Final

from automq.runtime.workers import Workers
from automq.s3stream.ports import StoreUnavailable, StoreUnsupported
from automq.s3stream.store.handoff import run_interruptibly
from automq.s3stream.store.requests import Operation, RequestOutcome, outcome_of
from automq.s3stream.store.s3_errors import answer_of_body, error_of
from automq.s3stream.store.s3_receiver import BodyReceiver
from automq.s3stream.store.s3_tries import RANGE_NOT_SATISFIABLE, S3Requests
from automq.s3stream.store.s3_wire import HttpAnswer, Transfer

PARTIAL_CONTENT: Final = 206


class S3RangeReader:
    """Implements `RangeReader`."""

    def __init__(self, requests: S3Requests, name: str, start: int, end: int) -> None:
        self._requests = requests
        self._name = name
        self._position = start
        self._end = end
        self._what = f"get {requests.place(name)}"
        self._open: tuple[BodyReceiver, Workers] | None = None
        self._received = 0
        """Bytes of the open GET."""

    async def read_into(self, buffer: memoryview) -> int:
        wanted = buffer[: self._end - self._position]
        if not len(wanted):
            return 0
        count = await self._requests.retrying(self._what, lambda: self._fill(wanted))
        self._position += count
        if count < len(wanted):
            # The object ends here.
            self._end = self._position
        if self._position == self._end:
            self.close()
        return count

    def close(self) -> None:
        if self._open is None:
            return
        receiver, _ = self._open
        self._open = None
        receiver.close()
        self._requests.report(
            Operation.GET_OBJECT, self._name, RequestOutcome.SUCCESS, received_bytes=self._received, count=0
        )

    async def _fill(self, buffer: memoryview) -> int:
        """What follows the position; after an error the next one begins there with a GET of its own."""
        try:
            receiver, workers = self._open or await self._begin()
            transfer = Transfer()
            count = await run_interruptibly(workers, transfer.break_off, receiver.read_into, transfer, buffer)
            self._received += count
            return count
        except http.client.HTTPException as error:
            self.close()
            raise StoreUnavailable(f"{self._what}: broke off: {str(error) or type(error).__name__}") from error
        except _BeyondEnd:
            return 0
        except BaseException:
            self.close()
            raise

    async def _begin(self) -> tuple[BodyReceiver, Workers]:
        receiver, workers, credential = await self._requests.receiver()
        transfer = Transfer()
        outcome = RequestOutcome.NO_ANSWER
        try:
            answer = await run_interruptibly(
                workers,
                transfer.break_off,
                receiver.open,
                transfer,
                self._name,
                self._position,
                self._end,
                credential=credential,
            )
            outcome = outcome_of(answer.status)
            self._check(answer)
        except BaseException:
            receiver.close()
            raise
        finally:
            # Now, and its bytes later: a process that ends before has made the request all the same.
            self._requests.report(Operation.GET_OBJECT, self._name, outcome)
        self._received = 0
        self._open = receiver, workers
        return self._open

    def _check(self, answer: HttpAnswer) -> None:
        """Raises unless a body follows whose end can be told from its breaking off."""
        if answer.status == RANGE_NOT_SATISFIABLE:
            raise _BeyondEnd
        if outcome_of(answer.status) is not RequestOutcome.SUCCESS:
            raise error_of(answer_of_body(answer.status, answer.body), self._what)
        if answer.status != PARTIAL_CONTENT:
            raise StoreUnsupported(f"{self._what}: answered {answer.status} to a range")
        if "content-length" not in answer.headers and answer.headers.get("transfer-encoding") != "chunked":
            raise StoreUnavailable(f"{self._what}: an answer that does not say how long it is")


class _BeyondEnd(Exception):
    """The object ends before the position."""
