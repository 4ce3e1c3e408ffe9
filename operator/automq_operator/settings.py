"""The operator's own settings, from its environment; the chart sets them."""

import math
import os
from dataclasses import dataclass
from typing import Final

LOG_LEVELS: Final = ("debug", "info", "warning", "error")


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorSettings:
    """All of them, with the names of their variables."""

    default_image: str
    """AUTOMQ_IMAGE: what brokers run unless their resource names an image."""
    namespaces: tuple[str, ...]
    """AUTOMQ_NAMESPACES: comma-separated; empty means all."""
    own_namespace: str
    """POD_NAMESPACE: where the Lease lives."""
    identity: str
    """POD_NAME: who holds the Lease."""
    lease_name: str
    """AUTOMQ_LEASE: name of the Lease."""
    http_port: int
    """AUTOMQ_HTTP_PORT: /metrics, /livez, /readyz."""
    erase_s: float
    """AUTOMQ_ERASE_SECONDS: how long a deletion waits for its prefix to be emptied."""
    node_lost_s: float
    """AUTOMQ_NODE_LOST_SECONDS: how long a node may be not ready before its brokers are replaced."""
    log_level: str = "info"
    """AUTOMQ_LOG_LEVEL: debug, info, warning or error."""
    pull_secrets: tuple[str, ...] = ()
    """AUTOMQ_IMAGE_PULL_SECRETS: comma-separated; brokers' pods get them beside those of their resource."""


class SettingsError(Exception):
    """A variable is missing or cannot be read; names it and the remedy."""


def from_environment() -> OperatorSettings:
    """Raises SettingsError."""
    environment = os.environ

    def number(name: str, default: str) -> float:
        text = environment.get(name, default)
        try:
            found = float(text)
        except ValueError as error:
            raise SettingsError(f"{name} must be a number, not {text!r}") from error
        if not 0.0 <= found < math.inf:
            raise SettingsError(f"{name} must be a number from 0, not {text!r}")
        return found

    def names(name: str) -> tuple[str, ...]:
        return tuple(item.strip() for item in environment.get(name, "").split(",") if item.strip())

    level = environment.get("AUTOMQ_LOG_LEVEL", "info").lower()
    if level not in LOG_LEVELS:
        raise SettingsError(f"AUTOMQ_LOG_LEVEL must be one of {', '.join(LOG_LEVELS)}, not {level!r}")
    image = environment.get("AUTOMQ_IMAGE")
    if not image:
        raise SettingsError("AUTOMQ_IMAGE is not set: name the image that brokers run")
    return OperatorSettings(
        default_image=image,
        log_level=level,
        namespaces=names("AUTOMQ_NAMESPACES"),
        pull_secrets=names("AUTOMQ_IMAGE_PULL_SECRETS"),
        own_namespace=environment.get("POD_NAMESPACE", "default"),
        identity=environment.get("POD_NAME", "automq-operator"),
        lease_name=environment.get("AUTOMQ_LEASE", "automq-operator"),
        http_port=int(number("AUTOMQ_HTTP_PORT", "8080")),
        erase_s=number("AUTOMQ_ERASE_SECONDS", "600"),
        node_lost_s=number("AUTOMQ_NODE_LOST_SECONDS", "5"),
    )
