"""What a process shows, written by a thread of its own: a terminal that is stopped, a pipe that nobody reads and a disk
that hangs make whoever writes to them wait, and that must not be the event loop.

In order, and at most `PENDING_MAX` writes behind: what comes on top of that is dropped, and counted.
"""

import queue
import threading
from collections.abc import Callable
from typing import Final

PENDING_MAX: Final = 1_000
"""Some hundred kilobytes; a reader that is further behind than that has stopped reading."""


class Output:
    """A thread that writes; it begins with the first write."""

    def __init__(self) -> None:
        self._writes: queue.SimpleQueue[Callable[[], object]] = queue.SimpleQueue()
        self._lock = threading.Condition()
        self._pending = 0
        self._is_running = False
        self.dropped = 0
        """Writes that were not done because too many waited."""

    def do(self, write: Callable[[], object]) -> None:
        """Call `write` in the thread, after everything before it. Its OSError and ValueError are nobody's concern."""
        with self._lock:
            if self._pending >= PENDING_MAX:
                self.dropped += 1
                return
            self._pending += 1
            if not self._is_running:
                self._is_running = True
                threading.Thread(target=self._run, name="automq-output", daemon=True).start()
        self._writes.put(write)

    def flush(self, timeout_s: float) -> bool:
        """Wait until everything so far is written; False when it is not after `timeout_s`."""
        with self._lock:
            return self._lock.wait_for(lambda: not self._pending, timeout_s)

    def _run(self) -> None:
        while True:
            write = self._writes.get()
            try:
                write()
            except (OSError, ValueError):
                # A full disk, a closed pipe, a terminal that is gone: nobody reads us.
                pass
            finally:
                with self._lock:
                    self._pending -= 1
                    if not self._pending:
                        self._lock.notify_all()


OUTPUT: Final = Output()
"""Of this process: there is one standard error."""
