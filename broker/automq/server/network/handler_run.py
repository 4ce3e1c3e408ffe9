"""A request that has a handler, from its task's beginning to its answer."""

from collections.abc import Callable

from automq.handlers.context import RequestContext
from automq.protocol.codec import MalformedMessage
from automq.protocol.connection import RequestHead, ResponseSlot
from automq.protocol.schema import Message
from automq.runtime.cpu import metered
from automq.security.session import Session
from automq.server.network.dispatch import Route, WideRequest, respond
from automq.server.network.host import ConnectionHost
from automq.server.network.receiving import decoded_bytes
from automq.server.network.started import Started


async def run_handler(
    server: ConnectionHost,
    session: Session,
    route: Route,
    head: RequestHead,
    request: Message | WideRequest,
    slot: ResponseSlot,
    started: Started,
    *,
    size: int,
    end: Callable[[MalformedMessage | None], None],
) -> None:
    """Complete `slot` with the handler's answer; `end` the connection when there is none.

    What a request of `size` bytes takes as objects was charged, and is released here.
    """
    context = RequestContext(services=server.services, version=head.version, session=session)
    work = respond(
        route,
        context,
        head.correlation_id,
        request,
        size=size,
        audit=server.audit,
        on_error=server.metrics.failed,
    )
    malformed: MalformedMessage | None = None
    answer: bytes | None = None
    try:
        answer = await metered(work, started.add_worked)
    except MalformedMessage as error:
        malformed = error
    finally:
        server.receiving.decoded.release(decoded_bytes(size))
    if answer is None:
        slot.discard()
        end(malformed)
    else:
        slot.complete((answer,))
