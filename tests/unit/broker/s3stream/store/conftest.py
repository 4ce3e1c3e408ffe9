"""One S3 server (moto) for the tests of this folder."""

from collections.abc import Iterator

import pytest

from tests.support.s3_server import S3Server, run_s3_server


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    with run_s3_server() as server:
        yield server
