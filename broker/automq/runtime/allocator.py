"""The C library's allocator, set up for a process that lives for a year within a limit.

By default glibc gives each thread a heap of its own, and takes larger and larger pieces from the heaps once pieces of
that size have been freed. Buffers that a thread reads into are freed by another one, later, and in another order: what
lies between them can never be given back, and the resident set creeps up although no more is in use.
"""

import ctypes
from typing import Final

# Of <malloc.h>. One heap is enough for threads that hold the interpreter's lock whenever they allocate.
M_MMAP_THRESHOLD: Final = -3
M_ARENA_MAX: Final = -8
HEAPS: Final = 1
MAPPED_BYTES: Final = 256 * 1024
"""Pieces from this size on are mapped, and gone when they are freed."""


def configure_allocator() -> bool:
    """Set it up, before the first thread starts; False where the C library has no such settings. Idempotent."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        # musl and macOS: the first gives back what is free, on the second nobody runs for a year.
        return False
    return bool(mallopt(M_ARENA_MAX, HEAPS)) and bool(mallopt(M_MMAP_THRESHOLD, MAPPED_BYTES))
