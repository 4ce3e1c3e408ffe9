"""Adapter: tells Kafka clusters of brokers that are gone. No pass waits for it: the answer comes after the failover."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Final

from automq_operator.kafka_admin import AdminFailed, KafkaAdmin
from automq_operator.plan import EndBroker

log = logging.getLogger(__name__)

ANSWER_S: Final = 30.0
"""The controller answers when what the broker had is recovered, after 25 s at most."""


class FailoverHelp:
    """Of one cluster. `on_ended` is called with the uid of a pod of whose end the cluster knows."""

    def __init__(self, admin: KafkaAdmin, what: str, on_ended: Callable[[str], None]) -> None:
        self._admin, self._what, self._on_ended = admin, what, on_ended
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def end(self, gone: EndBroker) -> None:
        """Begin to tell, unless that is under way. What comes to nothing is begun again by a later pass."""
        if gone.uid in self._tasks:
            return
        task = asyncio.get_running_loop().create_task(self._end(gone))
        self._tasks[gone.uid] = task
        task.add_done_callback(lambda _: self._tasks.pop(gone.uid, None))

    async def close(self) -> None:
        """End what is under way."""
        tasks: Sequence[asyncio.Task[None]] = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _end(self, gone: EndBroker) -> None:
        try:
            await self._admin.end(gone.through, gone.broker, gone.epoch, timeout_s=ANSWER_S)
        except AdminFailed as error:
            log.info("%s: broker %d of %s is not ended: %s", self._what, gone.broker, gone.name, error)
            return
        log.info("%s: the cluster knows that broker %d of %s is gone", self._what, gone.broker, gone.name)
        self._on_ended(gone.uid)
