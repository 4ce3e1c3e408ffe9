"""One broker process for the tests of a module, on a file store of its own."""

import pathlib
from collections.abc import Iterator

import pytest

from tests.support.process import Broker


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    running = Broker(tmp_path_factory.mktemp("broker"))
    running.start()
    yield running
    running.stop()


@pytest.fixture
def topic(request: pytest.FixtureRequest) -> str:
    """A topic name of the test's own."""
    name = request.node.name
    return "".join(letter if letter.isalnum() or letter in "._-" else "-" for letter in name)[:200]


@pytest.fixture
def folder(tmp_path: pathlib.Path) -> pathlib.Path:
    return tmp_path
