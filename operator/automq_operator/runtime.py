"""The operator's only access to time."""

import datetime
import time


def wall_time() -> datetime.datetime:
    """Now, in UTC. For what people read and for ages that the API server gives as times."""
    return datetime.datetime.now(datetime.UTC)


def rfc3339(moment: datetime.datetime) -> str:
    """As Kubernetes writes times."""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def seconds_since(text: str | None) -> float:
    """Age of a time that the API server gave; 0 for none."""
    if not text:
        return 0.0
    return (wall_time() - datetime.datetime.fromisoformat(text.replace("Z", "+00:00"))).total_seconds()


def monotonic() -> float:
    """Seconds that never go back."""
    return time.monotonic()
