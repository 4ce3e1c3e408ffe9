"""Linux native AIO: writes and syncs that the kernel does while the event loop goes on, without a thread.

A thread costs a hand-off and, next to a busy loop, waits for the interpreter's lock after every system call: a third of
the CPU and half of the latency of a durable write were seen to go that way. The calls go through `ctypes.PyDLL`, which
keeps the lock: with O_DIRECT into blocks that exist, submitting does not wait for the disk.
"""

import asyncio
import ctypes
import errno
import mmap
import os
import platform
import struct
from collections.abc import Callable
from typing import Final, Protocol

# The numbers of x86-64, where this was measured; elsewhere threads do the work.
_SETUP, _DESTROY, _GET_EVENTS, _SUBMIT = 206, 207, 208, 209
_OP_WRITE: Final = 1
_OP_SYNC: Final = 2
_WRITE_SYNCED: Final[int] = getattr(os, "RWF_DSYNC", 0)
_FLAG_EVENTFD: Final = 1
# struct iocb: data, key, rw_flags, opcode, priority, fd, address, size, position, reserved, flags, eventfd.
_REQUEST: Final = struct.Struct("=QIIHhIQQqQII")
_EVENT_WORDS: Final = 4
DEPTH: Final = 64

Completion = Callable[[int], None]
"""Told the kernel's result: bytes written or 0, or an errno below zero."""


class KernelIo(Protocol):
    """Requests that complete on the event loop. Both answer False when the kernel takes no request now."""

    def write_synced(self, fd: int, view: memoryview, completion: Completion) -> bool:
        """Write `view` at the start of the file, durable when `completion` is called. The memory is page-aligned."""
        ...

    def sync(self, fd: int, completion: Completion) -> bool:
        """Make a file or a folder durable."""
        ...

    def close(self) -> None:
        """Nothing may be in flight."""
        ...


class LinuxKernelIo:
    """One AIO context, read by the running loop."""

    def __init__(self) -> None:
        """Raises OSError where the kernel, the machine or the container does not have it."""
        if platform.system() != "Linux" or platform.machine() != "x86_64" or not _WRITE_SYNCED:
            raise OSError(errno.ENOSYS, "native AIO is used on Linux on x86-64 only")
        self._call = ctypes.PyDLL(None, use_errno=True).syscall
        self._call.restype = ctypes.c_long
        self._context = ctypes.c_ulong(0)
        self._check(self._call(_SETUP, DEPTH, ctypes.byref(self._context)))
        self._eventfd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._requests = mmap.mmap(-1, _REQUEST.size * DEPTH)
        self._first = ctypes.addressof(ctypes.c_char.from_buffer(self._requests))
        self._free = list(range(DEPTH))
        self._completions: dict[int, Completion] = {}
        self._events = (ctypes.c_int64 * (_EVENT_WORDS * DEPTH))()
        self._pointer = (ctypes.c_void_p * 1)()
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._eventfd, self._on_events)

    def write_synced(self, fd: int, view: memoryview, completion: Completion) -> bool:
        address = ctypes.addressof(ctypes.c_char.from_buffer(view))
        return self._submit(_OP_WRITE, fd, address, len(view), _WRITE_SYNCED, completion)

    def sync(self, fd: int, completion: Completion) -> bool:
        return self._submit(_OP_SYNC, fd, 0, 0, 0, completion)

    def close(self) -> None:
        assert not self._completions
        self._loop.remove_reader(self._eventfd)
        self._call(_DESTROY, self._context)
        os.close(self._eventfd)

    def _submit(self, operation: int, fd: int, address: int, size: int, flags: int, completion: Completion) -> bool:
        if not self._free:
            return False
        slot = self._free.pop()
        place = slot * _REQUEST.size
        _REQUEST.pack_into(
            self._requests, place, slot, 0, flags, operation, 0, fd, address, size, 0, 0, _FLAG_EVENTFD, self._eventfd
        )
        self._pointer[0] = self._first + place
        if self._call(_SUBMIT, self._context, 1, self._pointer) != 1:
            self._free.append(slot)
            return False
        self._completions[slot] = completion
        return True

    def _on_events(self) -> None:
        try:
            os.eventfd_read(self._eventfd)
        except BlockingIOError:
            return
        count = self._call(_GET_EVENTS, self._context, 0, DEPTH, self._events, None)
        self._check(count)
        # A completion may submit: what is in `events` is copied out first.
        done = [(self._events[_EVENT_WORDS * n], self._events[_EVENT_WORDS * n + 2]) for n in range(count)]
        for slot, result in done:
            self._free.append(slot)
            self._completions.pop(slot)(result)

    def _check(self, result: int) -> None:
        if result < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))


def open_kernel_io() -> KernelIo | None:
    """The kernel's AIO for the running loop; None where there is none."""
    try:
        return LinuxKernelIo()
    except OSError:
        return None
