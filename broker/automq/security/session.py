"""What the broker knows of the client at the other end of a connection: Produce, Fetch and all the rest get it."""

from collections.abc import Callable
from typing import Final, Protocol

from automq.callbacks import ignore
from automq.security.authorizer import Operation, Resource, ResourceType

ANONYMOUS: Final = "User:ANONYMOUS"


class Authorizer(Protocol):
    """Decides at once, without I/O."""

    def authorize(self, session: "Session", operation: Operation, resource: Resource) -> bool:
        """Whether the client may do `operation` to `resource`."""
        ...

    def authorize_every(self, session: "Session", operation: Operation, kind: ResourceType) -> bool:
        """Whether the client may do `operation` to every resource of `kind`: spares asking one by one."""
        ...


class AllowEverything:
    """No authorizer is configured."""

    def authorize(self, session: "Session", operation: Operation, resource: Resource) -> bool:
        return True

    def authorize_every(self, session: "Session", operation: Operation, kind: ResourceType) -> bool:
        return True


class Quotas(Protocol):
    """How long clients are made to wait for what they use. Decides at once, without I/O."""

    def throttle_ms(self, session: "Session", api_key: int, size: int) -> int:
        """The client has used the API with `size` bytes: milliseconds for which it is not listened to; 0 for none."""
        ...


class NoQuotas:
    """Nobody is made to wait."""

    def throttle_ms(self, session: "Session", api_key: int, size: int) -> int:
        return 0


class Session:
    """One connection's client. Not frozen: it says who it is by and by."""

    __slots__ = (
        "__weakref__",
        "_authorizer",
        "_mute",
        "_quotas",
        "client_host",
        "client_id",
        "has_rules",
        "listener_name",
        "principal",
        "software_name",
        "software_version",
    )

    def __init__(
        self,
        *,
        listener_name: str,
        client_host: str = "",
        principal: str = ANONYMOUS,
        authorizer: Authorizer | None = None,
        quotas: Quotas | None = None,
        mute: Callable[[int], None] = ignore,
    ) -> None:
        """`mute` stops listening to the client for so many milliseconds."""
        self.principal = principal
        """`User:ANONYMOUS` as long as nobody authenticates."""
        self.listener_name = listener_name
        """The listener it came in on: answers that name brokers give their endpoints of that listener."""
        self.client_host = client_host
        self.client_id: str | None = None
        """As the newest request says."""
        self.software_name: str | None = None
        """The client library, as ApiVersions says."""
        self.software_version: str | None = None
        # Without one nobody is asked: these questions come with every request.
        self._authorizer = None if isinstance(authorizer, AllowEverything) else authorizer
        self._quotas = None if isinstance(quotas, NoQuotas) else quotas
        self.has_rules = self._authorizer is not None or self._quotas is not None
        """Whether anybody is to be asked what the client may do."""
        self._mute = mute

    def close(self) -> None:
        """The connection is gone."""
        self._mute = ignore

    def allows(self, operation: Operation, resource: Resource) -> bool:
        """Whether the client may do `operation` to `resource`."""
        return self._authorizer is None or self._authorizer.authorize(self, operation, resource)

    def allows_every(self, operation: Operation, kind: ResourceType) -> bool:
        """Whether the client may do `operation` to every resource of `kind`."""
        return self._authorizer is None or self._authorizer.authorize_every(self, operation, kind)

    def throttle(self, api_key: int, size: int) -> int:
        """The client has used `api_key` with `size` bytes: the `throttle_time_ms` of the answer.

        Rule of KIP-219: the answer leaves at once, and the client is not listened to for that time.
        """
        if self._quotas is None:
            return 0
        throttle_ms = self._quotas.throttle_ms(self, api_key, size)
        if throttle_ms > 0:
            self._mute(throttle_ms)
        return throttle_ms
