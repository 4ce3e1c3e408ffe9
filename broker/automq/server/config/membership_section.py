"""Pure: the settings of membership, a section of the settings tree of its own."""

from dataclasses import dataclass

from automq.controller.sessions import heartbeat_interval_s
from automq.server.config.setting import integer, setting


@dataclass(frozen=True, slots=True, kw_only=True)
class MembershipSection:
    """When a broker counts as gone."""

    session_timeout_ms: int = setting(
        "automq.broker.session.timeout.ms",
        integer(least=2_000, most=600_000),
        default=3_000,
        doc="So long without a heartbeat, and the active controller fences a broker: others recover its write-ahead "
        "log and lead its partitions. Whichever broker is the controller decides.",
        used_by="controller/membership",
    )
    heartbeat_interval_ms: int | None = setting(
        "automq.broker.heartbeat.interval.ms",
        integer(least=50, most=1_000),
        default=None,
        default_text="a quarter of automq.broker.session.timeout.ms, at most 1000",
        doc="Between two heartbeats. Three of them must fit into a session; where the controller's session is shorter "
        "than this broker's own, it sends them as often as that needs.",
        used_by="controller/heartbeats",
    )

    @property
    def interval_s(self) -> float:
        """Between two heartbeats, as this broker's own settings have it."""
        if self.heartbeat_interval_ms is not None:
            return self.heartbeat_interval_ms / 1000
        return heartbeat_interval_s(self.session_timeout_ms / 1000)

    @property
    def contradiction(self) -> str | None:
        """Why an interval that was set does not go with the session, and what to do; None where it does."""
        interval_ms, session_ms = self.heartbeat_interval_ms, self.session_timeout_ms
        if interval_ms is None or 3 * interval_ms < session_ms:
            return None
        derived_ms = int(1000 * heartbeat_interval_s(session_ms / 1000))
        return (
            f"automq.broker.heartbeat.interval.ms={interval_ms} leaves no room for three heartbeats in "
            f"automq.broker.session.timeout.ms={session_ms}, so that brokers which are well would be fenced: set it "
            f"below {-(-session_ms // 3)}, remove it, which makes it {derived_ms}, or raise the session above "
            f"{3 * interval_ms}"
        )
