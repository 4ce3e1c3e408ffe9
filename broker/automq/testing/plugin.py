"""The pytest plugin: fixtures `automq_broker`, `automq_topic`, `automq_broker_factory`.

Loaded by every pytest run of an environment that has this package, so that nothing is imported before it is used.
"""

import contextlib
import itertools
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

import pytest

if TYPE_CHECKING:
    from automq.testing.broker import Factory, TestBroker

MODES: Final = ("process", "thread")
NAME_CHARACTERS_MAX: Final = 200
_numbers = itertools.count(1)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Settings in pytest's own configuration."""
    parser.addini(
        "automq_broker_mode", "process: a process of its own; thread: in this one, data in memory", default="process"
    )
    parser.addini("automq_broker_settings", "KEY=VALUE of the broker, one a line", type="linelist", default=[])


def _options(config: pytest.Config) -> dict[str, Any]:
    mode = config.getini("automq_broker_mode")
    if mode not in MODES:
        raise pytest.UsageError(f"automq_broker_mode is {mode}; it must be one of {', '.join(MODES)}")
    settings: dict[str, str] = {}
    for line in config.getini("automq_broker_settings"):
        key, equals, value = line.partition("=")
        if not equals:
            raise pytest.UsageError(f"automq_broker_settings: {line} has no value; write KEY=VALUE")
        settings[key.strip()] = value.strip()
    options: dict[str, Any] = {"in_process": mode == "thread", "settings": settings}
    # Not there with `-p no:cacheprovider`.
    if (cache := getattr(config, "cache", None)) is not None:
        options["bytecode_folder"] = cache.mkdir("automq-bytecode")
    return options


@pytest.fixture(scope="session")
def automq_broker(request: pytest.FixtureRequest) -> "Iterator[TestBroker]":
    """A broker for the whole run; tests keep apart by topics (`automq_topic`) and group names."""
    from automq.testing.broker import start_broker

    with start_broker(**_options(request.config)) as broker:
        yield broker


@pytest.fixture
def automq_topic(request: pytest.FixtureRequest, automq_broker: "TestBroker") -> str:
    """A topic of one partition that no other test has, named after the test."""
    legal = re.sub(r"[^A-Za-z0-9._-]", "-", request.node.name)[:NAME_CHARACTERS_MAX]
    return automq_broker.create_topic(f"{legal}-{next(_numbers)}")


@pytest.fixture
def automq_broker_factory(request: pytest.FixtureRequest) -> "Iterator[Factory]":
    """Starts brokers of the test's own; they end with it. Takes what `start_broker` takes."""
    from automq.testing.broker import start_broker

    with contextlib.ExitStack() as stack:

        def start(**arguments: Any) -> "TestBroker":
            options = _options(request.config)
            options["settings"] |= arguments.pop("settings", {})
            return stack.enter_context(start_broker(**{**options, **arguments}))

        yield start
