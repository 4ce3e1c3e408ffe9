"""The operator's settings: what cannot be meant is refused with the variable's name."""

import pytest

from automq_operator import settings


@pytest.mark.parametrize("value", ["nan", "inf", "-1", "soon", ""])
def test_a_number_that_cannot_be_meant_is_refused(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("AUTOMQ_IMAGE", "automq:1")
    monkeypatch.setenv("AUTOMQ_NODE_LOST_SECONDS", value)
    with pytest.raises(settings.SettingsError, match="AUTOMQ_NODE_LOST_SECONDS"):
        settings.from_environment()


def test_an_image_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AUTOMQ_IMAGE", raising=False)
    with pytest.raises(settings.SettingsError, match="AUTOMQ_IMAGE"):
        settings.from_environment()


def test_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTOMQ_IMAGE", "automq:1")
    monkeypatch.setenv("AUTOMQ_NAMESPACES", " one, two ,")
    found = settings.from_environment()
    assert (found.namespaces, found.node_lost_s, found.erase_s) == (("one", "two"), 5.0, 600.0)
    assert found.log_level == "info"


@pytest.mark.parametrize("value", ["loud", ""])
def test_a_log_level_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("AUTOMQ_IMAGE", "automq:1")
    monkeypatch.setenv("AUTOMQ_LOG_LEVEL", value)
    with pytest.raises(settings.SettingsError, match="AUTOMQ_LOG_LEVEL"):
        settings.from_environment()
