"""What `automq up` shows, and that nobody has to be able to read it."""

import contextlib
import json
import os
import pathlib
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request

import pytest

from tests.support.process import free_port

SERVE_S = 60.0


def until_serving(process: subprocess.Popen[bytes], http: int) -> None:
    deadline = time.monotonic() + SERVE_S
    while True:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{http}/readyz", timeout=5) as answer:
                assert json.load(answer)["state"] == "Serving"
                return
        except (urllib.error.URLError, OSError):
            assert process.poll() is None, "it ended"
            assert time.monotonic() < deadline
            time.sleep(0.05)


@pytest.mark.parametrize("streams", ["stderr", "both"])
def test_b17_up_goes_on_where_its_output_cannot_be_written(tmp_path: pathlib.Path, streams: str) -> None:
    http = free_port()
    with open("/dev/full", "wb") as full:
        process = subprocess.Popen(
            [sys.executable, "-m", "automq", "up", "--data-dir", str(tmp_path / "data"), "--port", "0"]
            + ["--set", f"automq.http.address=127.0.0.1:{http}"],
            stdout=full if streams == "both" else subprocess.DEVNULL,
            stderr=full,
        )
    try:
        until_serving(process, http)
        process.send_signal(signal.SIGTERM)
        assert process.wait(SERVE_S) == 0
    finally:
        process.kill()
        process.wait()


def test_b17_refusal_keeps_its_exit_code_where_it_cannot_be_told(tmp_path: pathlib.Path) -> None:
    with open("/dev/full", "wb") as full:
        code = subprocess.call(
            [sys.executable, "-m", "automq", "up", "--data-dir", str(tmp_path), "--set", "no.such.setting=1"],
            stdout=full,
            stderr=full,
        )

    assert code == 2


def test_b17_up_serves_and_ends_where_nobody_reads_its_output(tmp_path: pathlib.Path) -> None:
    """A stopped terminal, a log collector that hangs: writing to them waits for ever."""
    http = free_port()
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(writer, bytes(65536))
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(writer, b"x")
    os.set_blocking(writer, True)
    process = subprocess.Popen(
        [sys.executable, "-m", "automq", "up", "--data-dir", str(tmp_path / "data"), "--port", "0"]
        + ["--set", f"automq.http.address=127.0.0.1:{http}"],
        stdout=writer,
        stderr=writer,
    )
    try:
        until_serving(process, http)
        process.send_signal(signal.SIGTERM)
        assert process.wait(SERVE_S) == 0
    finally:
        process.kill()
        process.wait()
        os.close(reader)
        os.close(writer)
