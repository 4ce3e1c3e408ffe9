"""What tests of several handlers watch."""

from typing import Any

import pytest

from automq.handlers.produce import ProduceHandler


@pytest.fixture
def long_ways(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Versions of the requests that took the long way."""
    versions: list[int] = []
    start = ProduceHandler.start

    def counted(self: ProduceHandler, head: Any, *rest: Any) -> Any:
        versions.append(head.version)
        return start(self, head, *rest)

    monkeypatch.setattr(ProduceHandler, "start", counted)
    return versions
