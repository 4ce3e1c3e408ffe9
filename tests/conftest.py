"""Options and fixtures of the whole suite."""

import pytest

from tests.support import golden


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--rewrite-golden", action="store_true", help="write tests/golden anew from what the code gives")


def pytest_configure(config: pytest.Config) -> None:
    golden.rewrite = bool(config.getoption("--rewrite-golden"))
