"""A broker's sign of life to the controller, once a second.

Heartbeats have a link of their own, so that nothing a broker asks for delays one. An answer that does not come in time
is not waited for: the next heartbeat says more.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from automq.callbacks import ignore
from automq.controller.link import ControllerLink
from automq.controller.membership import HEARTBEAT_S
from automq.controller.model import BrokerLoad, HeartbeatAnswer
from automq.controller.requests import Heartbeat
from automq.ids import BrokerEpoch, NodeId
from automq.metadata.publisher import MetadataPublisher
from automq.runtime.clock import Clock
from automq.s3stream.model import BrokerFenced
from automq.s3stream.ports import NotController

log = logging.getLogger(__name__)

ANSWER_S: Final = 1.0
"""An answer takes a round trip; one that takes longer is not waited for."""
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
        on_proof: Callable[[float, int], None] = lambda _began, _record_number: None,
        on_silence: Callable[[], None] = ignore,
    ) -> None:
        """`on_proof` is called for answers that show this incarnation unfenced: see `Contact.prove`."""
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
            await asyncio.sleep(AGAIN_S if reached is None else HEARTBEAT_S)

    async def _beat(self) -> HeartbeatAnswer | None:
        """One heartbeat; None when nobody answered in time."""
        began = self._clock.boottime()
        beat = Heartbeat(self._node, self._epoch, self._load(), self._metadata.image.record_number)
        try:
            async with asyncio.timeout(ANSWER_S):
                answer = await self._link.ask(beat)
                found = answer.value
                if not isinstance(found, HeartbeatAnswer):
                    # A controller of an older release knows no heartbeats, and fences nobody for want of them.
                    return None
                if not found.is_fenced and found.proof_age_s is not None:
                    self._on_proof(began - found.proof_age_s, found.record_number)
                return found
        except (NotController, TimeoutError) as error:
            log.debug("heartbeat not answered", extra={"why": str(error) or type(error).__name__})
            # The connection may be half-open, or lead to who is the controller no more.
            self._on_silence()
            return None
