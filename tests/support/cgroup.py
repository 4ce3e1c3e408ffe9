"""A control group with a memory limit, as a container has one: made on this machine, where that may be done."""

import contextlib
import os
import pathlib
import time
from collections.abc import Iterator

ROOT = pathlib.Path("/sys/fs/cgroup")


class MemoryGroup:
    """One group. Bytes are those of all its processes together."""

    def __init__(self, folder: pathlib.Path, *, is_unified: bool) -> None:
        self.folder = folder
        self._is_unified = is_unified

    @property
    def entrance(self) -> pathlib.Path:
        """Where a process writes its number to be in the group."""
        return self.folder / "cgroup.procs"

    @property
    def resident_bytes(self) -> int:
        """What cannot be dropped: everything but the files that are cached. Arenas are shared memory to the kernel."""
        figures = self._figures("memory.stat")
        return figures["anon" if self._is_unified else "rss"] + figures["shmem"]

    @property
    def peak_bytes(self) -> int:
        """The most that was charged, cached files included: the kernel drops those first."""
        name = "memory.peak" if self._is_unified else "memory.max_usage_in_bytes"
        return int((self.folder / name).read_text())

    @property
    def killed(self) -> int:
        """Processes that the kernel ended because of the limit."""
        return self._figures("memory.events" if self._is_unified else "memory.oom_control")["oom_kill"]

    def _figures(self, name: str) -> dict[str, int]:
        lines = (line.split() for line in (self.folder / name).read_text().splitlines())
        return {words[0]: int(words[1]) for words in lines if len(words) == 2}


@contextlib.contextmanager
def memory_group(limit_bytes: int) -> Iterator[MemoryGroup | None]:
    """A group with that limit until the end of the block; None where none can be made. Its processes have ended."""
    group = _make(limit_bytes)
    try:
        yield group
    finally:
        if group is not None:
            _remove(group.folder)


def _remove(folder: pathlib.Path) -> None:
    """As soon as the last of its processes has been buried."""
    for _ in range(100):
        with contextlib.suppress(OSError):
            folder.rmdir()
            return
        time.sleep(0.1)


def _make(limit_bytes: int) -> MemoryGroup | None:
    """Version 2 where it has the memory controller, else version 1."""
    is_unified = (ROOT / "cgroup.controllers").exists()
    folder = (ROOT if is_unified else ROOT / "memory") / f"automq-bench-{os.getpid()}"
    limit = folder / ("memory.max" if is_unified else "memory.limit_in_bytes")
    try:
        folder.mkdir()
    except OSError:
        return None
    try:
        limit.write_text(str(limit_bytes))
    except OSError:
        # Nobody has handed the controller on.
        folder.rmdir()
        return None
    return MemoryGroup(folder, is_unified=is_unified)
