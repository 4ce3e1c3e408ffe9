"""Posts Kubernetes Events, one after the other and behind the passes: telling about work never holds it up."""

import asyncio
import logging
from collections import deque
from collections.abc import Mapping
from typing import Any, Final

from automq_operator import naming, runtime
from automq_operator.api_server import ApiError, ApiServer
from automq_operator.plan import Note
from automq_operator.wording import MESSAGE_CHARACTERS_MAX

log = logging.getLogger(__name__)

WAITING_MAX: Final = 256
"""Above that the oldest are dropped: an API server that takes no Events has more urgent things to do."""
TRIES: Final = 3
AGAIN_S: Final = 2.0


class Recorder:
    """`emit_event` from anywhere on the loop; `run` as a task."""

    def __init__(self, server: ApiServer, *, identity: str) -> None:
        self._server, self._identity = server, identity
        self._waiting: deque[Mapping[str, Any]] = deque(maxlen=WAITING_MAX)
        self._more = asyncio.Event()

    def emit_event(self, body: Mapping[str, Any], note: Note) -> None:
        """Queue an Event about a resource."""
        self._waiting.append(self._manifest(body, note))
        self._more.set()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self._more.wait()
            self._more.clear()
            while self._waiting:
                await self._post(self._waiting.popleft())

    async def _post(self, manifest: Mapping[str, Any]) -> None:
        for number in range(1, TRIES + 1):
            try:
                await self._server.create(manifest)
            except ApiError as error:
                if error.passing and number < TRIES:
                    await asyncio.sleep(error.retry_after_s or AGAIN_S)
                    continue
                log.warning("Event not posted: %s: %s", manifest["message"], error)
            except Exception:
                log.exception("Event not posted")
            return

    def _manifest(self, body: Mapping[str, Any], note: Note) -> dict[str, Any]:
        metadata, now = body["metadata"], runtime.rfc3339(runtime.wall_time())
        return {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"generateName": f"{metadata['name']}-", "namespace": metadata["namespace"]},
            "involvedObject": {
                "apiVersion": body["apiVersion"],
                "kind": body["kind"],
                "name": metadata["name"],
                "namespace": metadata["namespace"],
                "uid": metadata["uid"],
            },
            "type": "Warning" if note.warning else "Normal",
            "reason": note.reason,
            "message": note.message[:MESSAGE_CHARACTERS_MAX],
            "source": {"component": naming.FIELD_MANAGER},
            "reportingComponent": naming.FIELD_MANAGER,
            "reportingInstance": self._identity,
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
        }
