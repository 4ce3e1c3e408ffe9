"""S3 servers of others, where somebody has built them: versitygw and MinIO.

Looked for in the search path and below `s3/bin` of the folder that TESTBED_HOME names (`.cache/testbed` in the home
folder by default).
"""

import contextlib
import os
import pathlib
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator

import pytest

from tests.support.process import free_port
from tests.support.s3_server import ACCESS_KEY, SECRET_KEY, S3Server

START_SECONDS_MAX = 60.0


def find_server(name: str) -> str | None:
    """The program, if there is one."""
    home = os.environ.get("TESTBED_HOME") or pathlib.Path.home() / ".cache/testbed"
    return shutil.which(name, path=f"{home}/s3/bin") or shutil.which(name)


@contextlib.contextmanager
def run_real_s3(name: str, folder: pathlib.Path) -> Iterator[S3Server]:
    """A server on a free port, its data in `folder`, until the end of the block. Skips where it is not built."""
    program = find_server(name)
    if program is None:
        pytest.skip(f"{name} is not built here")
    port, data = free_port(), folder / "data"
    data.mkdir(parents=True, exist_ok=True)
    command = {
        "versitygw": ["--port", f"127.0.0.1:{port}", "--quiet", "--keep-alive", "posix", str(data)],
        "minio": ["server", "--quiet", "--address", f"127.0.0.1:{port}", str(data)],
    }[name]
    environment = os.environ | {
        "MINIO_ROOT_USER": ACCESS_KEY,
        "MINIO_ROOT_PASSWORD": SECRET_KEY,
        "MINIO_BROWSER": "off",
        "MINIO_UPDATE": "off",
        "ROOT_ACCESS_KEY": ACCESS_KEY,
        "ROOT_SECRET_KEY": SECRET_KEY,
    }
    process = subprocess.Popen(
        [program, *command], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        _wait_for(process, port)
        yield S3Server(f"http://127.0.0.1:{port}")
    finally:
        process.terminate()
        process.wait(timeout=30)


def _wait_for(process: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + START_SECONDS_MAX
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            # MinIO takes connections before it takes requests.
            time.sleep(1)
            return
        time.sleep(0.05)
    raise RuntimeError("the S3 server does not start")
