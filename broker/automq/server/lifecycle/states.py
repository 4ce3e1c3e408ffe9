"""Pure: the states of a broker process, the closed set of reasons, and how a process ends.

States and their moves are a table; a move that is not in it is a bug. `/readyz` shows the state, the reason and the
message; the last line of a failing process is `termination_message`.
"""

import enum
import json
from collections.abc import Callable, Mapping
from typing import Final


class State(enum.Enum):
    """What a broker is doing. The words are those of `/readyz`."""

    STARTING = "Starting"
    """Settings are read and addresses bound; the store is being looked at."""
    WAITING = "Waiting"
    """Something outside must heal; it is asked again with backoff."""
    RECOVERING = "Recovering"
    """Registered: earlier write-ahead logs are read, partitions opened."""
    SERVING = "Serving"
    DRAINING = "Draining"
    """Told to stop: requests in flight are answered and the tail is uploaded."""
    FENCED = "Fenced"
    """Another process has taken over: this one does nothing but watch until it may end."""
    DAMAGED = "Damaged"
    """The store has lost or damaged what acknowledgements rest on: nothing is acknowledged, the process ends."""


class Event(enum.Enum):
    """What moves a broker from one state to another."""

    BLOCKED = 1
    HEALED = 2
    REGISTERED = 3
    RECOVERED = 4
    STOP_ASKED = 5
    FENCED = 6
    DAMAGED = 7


NEXT: Final[Mapping[tuple[State, Event], State]] = {
    (State.STARTING, Event.BLOCKED): State.WAITING,
    (State.RECOVERING, Event.BLOCKED): State.WAITING,
    (State.WAITING, Event.BLOCKED): State.WAITING,
    (State.WAITING, Event.HEALED): State.STARTING,
    # One request may fail while the step as a whole succeeds.
    (State.WAITING, Event.REGISTERED): State.RECOVERING,
    (State.WAITING, Event.RECOVERED): State.SERVING,
    (State.STARTING, Event.REGISTERED): State.RECOVERING,
    (State.RECOVERING, Event.RECOVERED): State.SERVING,
    (State.STARTING, Event.STOP_ASKED): State.DRAINING,
    (State.WAITING, Event.STOP_ASKED): State.DRAINING,
    (State.RECOVERING, Event.STOP_ASKED): State.DRAINING,
    (State.SERVING, Event.STOP_ASKED): State.DRAINING,
    (State.FENCED, Event.STOP_ASKED): State.DRAINING,
    (State.STARTING, Event.FENCED): State.FENCED,
    (State.WAITING, Event.FENCED): State.FENCED,
    (State.RECOVERING, Event.FENCED): State.FENCED,
    (State.SERVING, Event.FENCED): State.FENCED,
    (State.DRAINING, Event.FENCED): State.FENCED,
    (State.STARTING, Event.DAMAGED): State.DAMAGED,
    (State.WAITING, Event.DAMAGED): State.DAMAGED,
    (State.RECOVERING, Event.DAMAGED): State.DAMAGED,
    (State.SERVING, Event.DAMAGED): State.DAMAGED,
    (State.DRAINING, Event.DAMAGED): State.DAMAGED,
}


class Reason(enum.Enum):
    """Why a broker waits or ends: a closed set that supervisors may rely on."""

    STORE_UNREACHABLE = "StoreUnreachable"
    STORE_CREDENTIALS_REJECTED = "StoreCredentialsRejected"
    STORE_ACCESS_DENIED = "StoreAccessDenied"
    BUCKET_NOT_FOUND = "BucketNotFound"
    INVALID_SETTINGS = "InvalidSettings"
    STORE_UNSUITABLE = "StoreUnsuitable"
    STORE_OWNED_BY_ANOTHER = "StoreOwnedByAnother"
    STORE_CLUSTER_MISSING = "StoreClusterMissing"
    STORE_FORMAT_TOO_NEW = "StoreFormatTooNew"
    STORE_DAMAGED = "StoreDamaged"
    CLUSTER_IN_USE = "ClusterInUse"
    ADDRESS_IN_USE = "AddressInUse"
    FENCED = "Fenced"


class ExitCode(enum.IntEnum):
    """How a process ends; documented in docs/broker.md, never renumbered."""

    STOPPED = 0
    BUG = 1
    SETTINGS = 2
    STORE = 3
    ADDRESS = 4
    FENCED = 5
    DAMAGED = 6


HEALING: Final = frozenset(
    {
        Reason.STORE_UNREACHABLE,
        Reason.STORE_CREDENTIALS_REJECTED,
        Reason.STORE_ACCESS_DENIED,
        Reason.BUCKET_NOT_FOUND,
    }
)
"""Reasons that a broker waits out; a command that runs once (doctor, erase) ends with them."""

EXIT_CODES: Final[Mapping[Reason, ExitCode]] = {
    Reason.STORE_UNREACHABLE: ExitCode.STORE,
    Reason.STORE_CREDENTIALS_REJECTED: ExitCode.STORE,
    Reason.STORE_ACCESS_DENIED: ExitCode.STORE,
    Reason.BUCKET_NOT_FOUND: ExitCode.STORE,
    Reason.INVALID_SETTINGS: ExitCode.SETTINGS,
    Reason.STORE_UNSUITABLE: ExitCode.STORE,
    Reason.STORE_OWNED_BY_ANOTHER: ExitCode.STORE,
    Reason.STORE_CLUSTER_MISSING: ExitCode.STORE,
    Reason.STORE_FORMAT_TOO_NEW: ExitCode.STORE,
    Reason.STORE_DAMAGED: ExitCode.DAMAGED,
    Reason.CLUSTER_IN_USE: ExitCode.STORE,
    Reason.ADDRESS_IN_USE: ExitCode.ADDRESS,
    Reason.FENCED: ExitCode.FENCED,
}

MEANINGS: Final[Mapping[Reason, str]] = {
    Reason.STORE_UNREACHABLE: "The store does not answer, or answers with a server error. Look at the network, the "
    "endpoint and the store itself.",
    Reason.STORE_CREDENTIALS_REJECTED: "The store does not accept the credentials, or their files are missing. "
    "They are read again at every try.",
    Reason.STORE_ACCESS_DENIED: "The store knows the credentials and refuses an operation. Grant GetObject, PutObject, "
    "DeleteObject on the prefix and ListBucket on the bucket.",
    Reason.BUCKET_NOT_FOUND: "The bucket, or the folder above the store's folder, does not exist. Create it, or "
    "correct `automq.storage.uri`.",
    Reason.INVALID_SETTINGS: "A setting is unknown, malformed, missing or contradicts another; the message names it "
    "and the remedy.",
    Reason.STORE_UNSUITABLE: "The store fails a check that safety rests on, refuses a kind of request for good, or the "
    "prefix holds foreign data.",
    Reason.STORE_OWNED_BY_ANOTHER: "The prefix records another owner; the message names the cluster id that "
    "`automq.storage.adopt` would have to repeat.",
    Reason.STORE_CLUSTER_MISSING: "`automq.cluster.id` is set and the prefix is empty or another cluster's.",
    Reason.STORE_FORMAT_TOO_NEW: "The prefix was written by a newer version of the program; nothing was touched.",
    Reason.STORE_DAMAGED: "Something that must be in the store is missing or does not decode; the message names "
    "the key. Nothing was deleted. Look with `automq fsck`; only `automq repair` gives data up, by name.",
    Reason.CLUSTER_IN_USE: "The controller of this cluster is alive and of an older version, which forms no cluster "
    "with others; the message names it. It was left alone.",
    Reason.ADDRESS_IN_USE: "A listener's or the HTTP address is taken by another process.",
    Reason.FENCED: "Another process has taken over from this one; the message says how that was noticed.",
}


class Refused(Exception):
    """A reason to wait or to end, with a message for a person: what happened, to what, what to do."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message

    @property
    def exit_code(self) -> ExitCode:
        """How a process ends that ends for this."""
        return EXIT_CODES[self.reason]


class Lifecycle:
    """The broker's current state, and who wants to know of changes."""

    def __init__(self) -> None:
        self.state = State.STARTING
        self.reason: Reason | None = None
        self.message = "reading settings"
        self._is_able = True
        self._subscribers: list[Callable[[], None]] = []

    def subscribe(self, callback: Callable[[], None]) -> None:
        """Call `callback` after every change, synchronously."""
        self._subscribers.append(callback)

    @property
    def is_ready(self) -> bool:
        """Whether clients should be sent here."""
        return self.state is State.SERVING and self._is_able

    def can(self, event: Event) -> bool:
        """Whether `event` moves the broker from where it is."""
        return (self.state, event) in NEXT

    def move(self, event: Event, message: str, reason: Reason | None = None) -> None:
        """Take the step that `event` means. A step that the table does not have is a bug."""
        assert self.can(event), (self.state, event)
        self.state, self._is_able = NEXT[self.state, event], True
        self._publish(reason, message)

    def set_reason(self, message: str, reason: Reason | None = None, *, is_able: bool = True) -> None:
        """The state stays; what there is to tell about it changes. Who serves and is not able to is not ready."""
        if (self.reason, self.message, self._is_able) != (reason, message, is_able):
            self._is_able = is_able
            self._publish(reason, message)

    def _publish(self, reason: Reason | None, message: str) -> None:
        self.reason, self.message = reason, message
        for callback in self._subscribers:
            callback()


def termination_message(reason: Reason | None, message: str) -> str:
    """The last line of a failing process: JSON on one line. The reason of a bug is null."""
    return error_line(reason.value if reason else None, message)


def error_line(reason: str | None, message: str) -> str:
    """An error as programs read it: JSON on one line."""
    return json.dumps({"reason": reason, "message": " ".join(message.split())})
