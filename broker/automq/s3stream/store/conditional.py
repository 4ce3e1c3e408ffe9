"""Creating a key exactly once: the one place where unknown outcomes become known ones.

A store's answer to create-if-absent may be lost after the create happened. So the same bytes are asked for again until
the store gives an answer that decides:

    answer                            what it means                       next
    success                           durable and ours                    done
    409 (StoreConflict)               nothing happened                    the same bytes again
    nothing, 5xx, time-out, refused   unknown                             the same bytes again, after a pause
    412 (ObjectExists)                bytes are there                     read them:
        equal to ours                 an earlier try of ours              done
        a whole value of another's    another writer was first            KeyTaken
        anything else                 the store damaged what it took      StoreDamaged; the key is left as it is

The body must carry a nonce, so that equal bytes can only be our own, and must not change until this returns: buffers
handed over are frozen. What does not decode is nobody's: a store that keeps half a PUT shows a writer the half of its
own body, and taking that for a fence would blame a process that does not exist.
"""

import asyncio
import enum
from collections.abc import Callable, Sequence

from automq.runtime.backoff import Backoff
from automq.runtime.entropy import Entropy
from automq.s3stream.model import FormatTooNew, StoreDamaged
from automq.s3stream.ports import (
    Buffer,
    ObjectExists,
    ObjectNotFound,
    ObjectStorage,
    StoreConflict,
    StoreError,
)

# A store that answers 409 is at work on the same key: it will be done in the time of one PUT.
FIRST_PAUSE_S = 0.05
# An outage of any length is waited out; nobody waits longer than this after its end.
LONGEST_PAUSE_S = 5.0


class KeyTaken(Exception):
    """The key holds other bytes than ours, for good: another writer was first."""

    def __init__(self, key: str, body: bytes | None) -> None:
        super().__init__(f"{key} was created by another writer")
        self.key = key
        self.body = body
        """What was found; None when it was deleted again before it could be read."""


class Verdict(enum.Enum):
    """What an answer of the store says about our create."""

    LANDED = "landed"
    TAKEN = "taken"
    UNKNOWN = "unknown"


async def create_once(
    store: ObjectStorage,
    key: str,
    body: Sequence[Buffer],
    *,
    decode: Callable[[bytes], object],
    entropy: Entropy,
    on_trouble: Callable[[StoreError | None], None] | None = None,
) -> None:
    """Return when `key` durably holds `body`, put there by us; raise KeyTaken when it holds another writer's value.

    `decode` reads a whole value of the key's format, whoever wrote it, and raises StoreDamaged or FormatTooNew. What
    it does not take is nobody's value: StoreDamaged. Nothing is overwritten, whatever is found.

    Waits for as long as the store fails, credentials and permissions included (they heal, too); cancel it to stop: the
    outcome is then unknown. `on_trouble` is called with every failure and with None when it is over.
    """
    backoff = Backoff(entropy=entropy, first_s=FIRST_PAUSE_S, max_s=LONGEST_PAUSE_S)
    while True:
        failure: StoreError | None = None
        found: bytes | None = None
        try:
            await store.create(key, body)
            verdict = Verdict.LANDED
        except ObjectExists:
            try:
                found = await store.get(key)
                verdict = judge_found(found, body)
                if verdict is Verdict.TAKEN:
                    verdict = judge_foreign(key, found, body, decode)
            except ObjectNotFound:
                # Rule: a key that was there and is gone was deleted by a successor; creating it anew proves nothing.
                verdict = Verdict.TAKEN
            except StoreError as error:
                verdict, failure = Verdict.UNKNOWN, error
        except StoreConflict as error:
            # Rule: 409 means that nothing happened, not that somebody else won. The same bytes again.
            verdict, failure = Verdict.UNKNOWN, error
        except StoreError as error:
            # Rule: no answer is no outcome. The same bytes again, never a success and never a loss.
            verdict, failure = Verdict.UNKNOWN, error
        if on_trouble is not None and (failure is not None or backoff.attempts):
            on_trouble(failure)
        match verdict:
            case Verdict.LANDED:
                return
            case Verdict.TAKEN:
                raise KeyTaken(key, found)
            case Verdict.UNKNOWN:
                await asyncio.sleep(backoff.next_s())


def judge_found(found: bytes, body: Sequence[Buffer]) -> Verdict:
    """Rule: 412 is decided by the nonce. Equal bytes are our own earlier try, whose answer was lost."""
    return Verdict.LANDED if found == b"".join(body) else Verdict.TAKEN


def judge_foreign(key: str, found: bytes, body: Sequence[Buffer], decode: Callable[[bytes], object]) -> Verdict:
    """Rule: only a whole value can be another's. Raises StoreDamaged for everything else.

    A value of a newer format is another's, too: whoever wrote it is at work here. Bytes that mean the same as ours and
    differ only where nothing depends on them (padding) are ours.
    """
    ours = b"".join(body)
    if len(found) < len(ours) and ours.startswith(found):
        raise StoreDamaged(
            f"{key} holds the first {len(found)} of the {len(ours)} bytes that we sent, a prefix of our own body: "
            "this store keeps half a PUT, so it is unsuitable",
            key=key,
        )
    try:
        value = decode(found)
    except FormatTooNew:
        return Verdict.TAKEN
    return Verdict.LANDED if found != ours and value == decode(ours) else Verdict.TAKEN
