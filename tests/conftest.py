"""Options and fixtures of the whole suite."""

import logging

import pytest
from hypothesis import settings

from tests.support import golden

# A run of the suite says the same each time, on a busy machine too. New examples of the properties are looked for by
# `pytest -m hypothesis --hypothesis-profile=explore`.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.register_profile("explore", derandomize=False, deadline=None)
settings.load_profile("repeatable")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--rewrite-golden", action="store_true", help="write tests/golden anew from what the code gives")


def pytest_configure(config: pytest.Config) -> None:
    golden.rewrite = bool(config.getoption("--rewrite-golden"))
    logging.getLogger("asyncio").addFilter(is_no_garbage)


def is_no_garbage(record: logging.LogRecord) -> bool:
    """What a test has left is collected during any other, which may just look at what is logged."""
    return not str(record.msg).startswith(
        ("Task was destroyed", "Task exception was never", "Future exception was never")
    )
