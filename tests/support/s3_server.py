"""An S3 server in a thread of this process (moto), for tests that need HTTP, and buckets on it."""

import contextlib
import itertools
import pathlib
import threading
from collections.abc import Iterator
from typing import Any

import boto3
from moto.server import ThreadedMotoServer

ACCESS_KEY = "testbed"
SECRET_KEY = "testbed-secret"
REGION = "us-east-1"
_numbers = itertools.count(1)


class S3Server:
    """Where it listens, and buckets on demand."""

    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint

    def client(self) -> Any:
        """Somebody else's client of the server."""
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            region_name=REGION,
            aws_access_key_id=ACCESS_KEY,
            aws_secret_access_key=SECRET_KEY,
        )

    def make_bucket(self) -> str:
        """A new bucket's name."""
        name = f"bucket-{next(_numbers)}"
        client = self.client()
        client.create_bucket(Bucket=name)
        client.close()
        return name

    def make_store_uri(self, *, prefix: str = "some/prefix", endpoint: str | None = None) -> str:
        """The URI of a new, empty store; `endpoint` is a proxy in between."""
        return f"s3://{self.make_bucket()}/{prefix}?endpoint={endpoint or self.endpoint}&region={REGION}"


@contextlib.contextmanager
def run_s3_server() -> Iterator[S3Server]:
    """A server on a free port, until the end of the block."""
    before = set(threading.enumerate())
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        yield S3Server(f"http://{host}:{port}")
    finally:
        server.stop()
        for thread in set(threading.enumerate()) - before:
            thread.join(timeout=5)


def write_credentials(
    folder: pathlib.Path, *, access_key: str = ACCESS_KEY, secret_key: str = SECRET_KEY, token: str | None = None
) -> str:
    """Credential files as `automq.storage.credentials.dir` wants them; the folder's path."""
    folder.mkdir(exist_ok=True)
    (folder / "access-key").write_text(access_key + "\n")
    (folder / "secret-key").write_text(secret_key + "\n")
    if token is not None:
        (folder / "session-token").write_text(token + "\n")
    return str(folder)
