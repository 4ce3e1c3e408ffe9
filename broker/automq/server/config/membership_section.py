"""Pure: the settings of membership, a section of the settings tree of its own."""

from dataclasses import dataclass

from automq.server.config.setting import integer, setting


@dataclass(frozen=True, slots=True, kw_only=True)
class MembershipSection:
    """When a broker counts as gone."""

    session_timeout_ms: int = setting(
        "automq.broker.session.timeout.ms",
        integer(least=2_000, most=600_000),
        default=3_000,
        doc="So long without a heartbeat, of which there is one a second, and the active controller fences a broker: "
        "others recover its write-ahead log and lead its partitions. Whichever broker is the controller decides.",
        used_by="controller/membership",
    )
