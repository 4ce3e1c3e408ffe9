"""The settings reach the C library: in a process of its own, which nobody else has set up."""

import ctypes
import subprocess
import sys

import pytest

PROGRAM = """
import ctypes, sys, threading
from automq.runtime.allocator import configure_allocator
if sys.argv[1] == "settled":
    assert configure_allocator()
kept = []
def work():
    kept.append([bytes(2_000) for _ in range(200)])
for _ in range(3):
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
ctypes.CDLL(None).malloc_stats()
"""

pytestmark = pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_stats"), reason="glibc's own")


def heaps(how: str) -> int:
    command = [sys.executable, "-c", PROGRAM, how]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stderr.count("Arena ")


def test_threads_share_one_heap() -> None:
    assert heaps("settled") == 1
    assert heaps("as it is") > 1
