"""Pure: what a state machine decides, and what it needs from the log it is replicated through.

A command looks at the machine and computes a `Decision`; only `replay` changes state. Between the two the driver
appends the records. A reply, errors included, leaves when everything the command could have seen is durable.
"""

import asyncio
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

Record = TypeVar("Record")
Response = TypeVar("Response")
RecordIn = TypeVar("RecordIn", contravariant=True)


@dataclass(frozen=True, slots=True)
class Decision(Generic[Record, Response]):
    """Records to append (all of them or none), and the response once they are durable."""

    records: Sequence[Record]
    response: Response


class LogFenced(Exception):
    """Somebody newer owns the log: this writer must never append or answer again."""


class LogFailed(Exception):
    """An append failed for good without a fence; speculative state is dropped and the machine reloaded."""


class LogBusy(LogFailed):
    """So much waits for the log that nothing more is taken now. Nothing happened: try again later."""


class Machine(Protocol[RecordIn]):
    """State that changes only by replaying records. Mutable inside, deterministic outside."""

    def replay(self, record: RecordIn) -> None:
        """Apply one record. Must not fail for a record this machine decided."""
        ...


class GradualMachine(Machine[RecordIn], Protocol[RecordIn]):
    """A machine that applies a large record in parts."""

    def turns(self, record: RecordIn) -> Iterator[None]:
        """As `replay`, in turns of bounded work. It is run to its end; nobody may look at the machine before."""
        ...


class RecordLog(Protocol[RecordIn]):
    """An append-only log of records with a single writer."""

    def append(self, records: Sequence[RecordIn]) -> asyncio.Future[None]:
        """Take `records` at once, in call order, atomically; the future is done when they are durable.

        Futures complete in call order. They fail with LogFenced, LogFailed or StoreDamaged; after the first failure
        every later one fails too and nothing more may be appended through this object. Grouping several calls into one
        durable write is the log's own business. Raises LogBusy, and takes nothing, when too much waits already.
        """
        ...


class GradualLog(RecordLog[RecordIn], Protocol[RecordIn]):
    """A log that takes many records in parts."""

    def append_in_turns(self, records: Sequence[RecordIn]) -> Generator[int | None, None, asyncio.Future[None]]:
        """As `append`; nothing is taken before it was run to its end. Nobody else appends meanwhile."""
        ...
