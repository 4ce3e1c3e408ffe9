"""Pure: how a broker finds the controller, and when it may claim to be it. A table of steps and what came of them.

Nothing safe rests on it: who holds the newest claim is decided by creating its key, and a controller that was replaced
too early only loses its claim. It decides when to try, so that a healthy controller is left alone and a dead one is
replaced within seconds.

    step         what is done                                            what may come of it
    READ         the newest claim is read                                NOBODY, OURS, ADDRESS, NO_ADDRESS
    CONNECT      whoever claimed last is connected to                    HEARD, REFUSED, SILENT, DENIED, NEWER
    CONFIRM      the same once more, 200 ms later                        HEARD, REFUSED, SILENT, DENIED, NEWER
    WATCH        other live brokers are asked whether they hear it, and  OBJECTED, PERMITTED, STILL, RENEWED, NEWER
                 the lease is watched for one interval meanwhile
    CLAIM        the next epoch is claimed                               WON, BEATEN
    REST         a random share of a session passes                      RESTED, HEARD
    FOLLOW       the controller is heard                                 LOST, SILENT, NAMED
    LEAD         this process is the controller                          LOST

"""

import enum
from collections.abc import Mapping
from typing import Final

CONFIRM_S: Final = 0.2
"""Between the first refused connection and the second: a listener that is only restarted is not taken for dead."""
SILENCE_S: Final = 2.0
"""So long nothing is heard before others are asked."""
LEASE_INTERVAL_S: Final = 5.0
"""A controller that is alive renews its lease within it."""
WATCH_S: Final = 1.0
"""Between two looks at a lease that is watched, and between two questions to the others."""
REST_S: Final = 3.0


class Step(enum.Enum):
    """What a broker does next."""

    READ = "read the claims"
    CONNECT = "connect to the controller"
    CONFIRM = "connect to the controller once more"
    WATCH = "ask the other brokers and watch the lease"
    CLAIM = "claim"
    REST = "rest"
    FOLLOW = "follow"
    LEAD = "lead"


class Event(enum.Enum):
    """What came of a step."""

    NOBODY = enum.auto()
    """Nobody ever claimed; or, of those who are asked, none has answered yet."""
    OURS = enum.auto()
    """A former process of this node claimed last."""
    ADDRESS = enum.auto()
    """The newest claim says where its claimant is reached."""
    NO_ADDRESS = enum.auto()
    """It does not: an older program's, or it cannot be read."""
    HEARD = enum.auto()
    """The controller has answered."""
    REFUSED = enum.auto()
    """Its machine answers and nobody listens there, or the connection was reset."""
    SILENT = enum.auto()
    """Nothing answers."""
    DENIED = enum.auto()
    """Whoever answers there is not the controller: not yet, or not any more."""
    NEWER = enum.auto()
    """Somebody has claimed meanwhile."""
    OBJECTED = enum.auto()
    """Another broker hears the controller."""
    PERMITTED = enum.auto()
    """Others answered, and none of them hears it."""
    STILL = enum.auto()
    """The lease has not changed."""
    RENEWED = enum.auto()
    """It has."""
    WON = enum.auto()
    """The claim is ours."""
    BEATEN = enum.auto()
    """Somebody else was faster."""
    RESTED = enum.auto()
    LOST = enum.auto()
    """The connection to the controller has ended; or our own claim was lost."""
    NAMED = enum.auto()
    """The controller stops and has named us its successor."""


NEXT: Final[Mapping[tuple[Step, Event], Step]] = {
    (Step.READ, Event.NOBODY): Step.CLAIM,
    # Rule: a newest claim of one's own node id permits the claim; whoever held it is replaced by us.
    (Step.READ, Event.OURS): Step.CLAIM,
    (Step.READ, Event.ADDRESS): Step.CONNECT,
    (Step.READ, Event.NO_ADDRESS): Step.WATCH,
    (Step.CONNECT, Event.HEARD): Step.FOLLOW,
    (Step.CONNECT, Event.REFUSED): Step.CONFIRM,
    (Step.CONNECT, Event.SILENT): Step.WATCH,
    (Step.CONNECT, Event.DENIED): Step.WATCH,
    (Step.CONNECT, Event.NEWER): Step.READ,
    (Step.CONFIRM, Event.HEARD): Step.FOLLOW,
    # Rule: a refused connection permits the claim when it is confirmed, without watching the lease.
    (Step.CONFIRM, Event.REFUSED): Step.CLAIM,
    (Step.CONFIRM, Event.SILENT): Step.WATCH,
    (Step.CONFIRM, Event.DENIED): Step.WATCH,
    (Step.CONFIRM, Event.NEWER): Step.READ,
    # Rule: one that hears the controller forbids the claim; silence does not.
    (Step.WATCH, Event.OBJECTED): Step.REST,
    (Step.WATCH, Event.PERMITTED): Step.CLAIM,
    # Rule: the lease decides only where nobody is left to ask. They are asked as long as it is watched: with an answer
    # of one that was too busy to answer at once it need not decide.
    (Step.WATCH, Event.STILL): Step.CLAIM,
    (Step.WATCH, Event.RENEWED): Step.REST,
    (Step.WATCH, Event.NEWER): Step.READ,
    (Step.CLAIM, Event.WON): Step.LEAD,
    (Step.CLAIM, Event.NEWER): Step.READ,
    # Rule: after a lost race a candidate waits, so that two of them do not take the claim from each other.
    (Step.CLAIM, Event.BEATEN): Step.REST,
    (Step.REST, Event.RESTED): Step.READ,
    # Whoever won is followed as soon as it answers: its sessions begin with its claim.
    (Step.REST, Event.HEARD): Step.FOLLOW,
    (Step.FOLLOW, Event.LOST): Step.READ,
    (Step.FOLLOW, Event.SILENT): Step.WATCH,
    (Step.FOLLOW, Event.NAMED): Step.CLAIM,
    (Step.LEAD, Event.LOST): Step.READ,
}


def verdict(answers: int, hearing: int) -> Event:
    """What the others' answers say: how many answered at all, and how many of these hear the controller."""
    if hearing:
        return Event.OBJECTED
    return Event.PERMITTED if answers else Event.NOBODY
