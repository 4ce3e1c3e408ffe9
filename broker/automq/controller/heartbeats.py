"""A broker's sign of life to the controller: so often that three of them fit into a session.

Heartbeats have a link of their own, so that nothing a broker asks for delays one. An answer that does not come in time
is not waited for: the next heartbeat says more.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from automq.callbacks import ignore
from automq.controller.link import ControllerLink
from automq.controller.model import BrokerLoad, HeartbeatAnswer
from automq.controller.requests import Heartbeat
from automq.controller.sessions import heartbeat_interval_s
from automq.ids import BrokerEpoch, NodeId
from automq.metadata.publisher import MetadataPublisher
from automq.runtime.clock import Clock
from automq.s3stream.model import BrokerFenced
from automq.s3stream.ports import NotController

log = logging.getLogger(__name__)

AGAIN_S: Final = 0.2
"""After a heartbeat that reached nobody."""


class Heartbeats:
    """Of one incarnation.

    `on_fenced` is called once, when the controller says that this incarnation is no more; `on_silence` for each
    heartbeat without an answer.
    """

    def __init__(
        self,
        *,
        link: ControllerLink,
        metadata: MetadataPublisher,
        node: NodeId,
        epoch: BrokerEpoch,
        load: Callable[[], BrokerLoad],
        on_fenced: Callable[[BrokerFenced], None],
        clock: Clock,
        interval_s: float = 1.0,
        on_session: Callable[[float], None] = lambda _session_s: None,
        on_proof: Callable[[float, int], None] = lambda _began, _record_number: None,
        on_silence: Callable[[], None] = ignore,
    ) -> None:
        """`interval_s` lies between two heartbeats, and is how long an answer is waited for: it takes a round trip.

        Whichever broker is the controller decides how long a session is: `on_session` is called with that, and the
        interval becomes shorter where it must. `on_proof` is called for answers that show this incarnation unfenced:
        see `Contact.prove`.
        """
        self._interval_s, self._most_s = interval_s, interval_s
        self._on_session = on_session
        self._link = link
        self._metadata = metadata
        self._node = node
        self._epoch = epoch
        self._load = load
        self._on_fenced = on_fenced
        self._clock = clock
        self._on_proof = on_proof
        self._on_silence = on_silence

    async def run(self) -> None:
        """For ever, or until this incarnation is fenced."""
        while True:
            reached = await self._beat()
            if reached is not None and reached.is_fenced:
                self._on_fenced(BrokerFenced(f"broker {self._node} at epoch {self._epoch} is fenced at the controller"))
                return
            await asyncio.sleep(min(AGAIN_S, self._interval_s) if reached is None else self._interval_s)

    async def _beat(self) -> HeartbeatAnswer | None:
        """One heartbeat; None when nobody answered in time."""
        began = self._clock.boottime()
        beat = Heartbeat(self._node, self._epoch, self._load(), self._metadata.image.record_number)
        try:
            async with asyncio.timeout(self._interval_s):
                answer = await self._link.ask(beat)
                found = answer.value
                if not isinstance(found, HeartbeatAnswer):
                    # A controller of an older release knows no heartbeats, and fences nobody for want of them.
                    return None
                self._follow_session(found.session_s)
                if not found.is_fenced and found.proof_age_s is not None:
                    self._on_proof(began - found.proof_age_s, found.record_number)
                return found
        except (NotController, TimeoutError) as error:
            log.debug("heartbeat not answered", extra={"why": str(error) or type(error).__name__})
            # The connection may be half-open, or lead to who is the controller no more.
            self._on_silence()
            return None

    def _follow_session(self, session_s: float | None) -> None:
        if session_s is not None:
            self._interval_s = min(self._most_s, heartbeat_interval_s(session_s))
            self._on_session(session_s)
