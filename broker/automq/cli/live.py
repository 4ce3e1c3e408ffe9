"""What `automq up` shows: where to connect, once it serves, and a status line on a terminal."""

import sys
import types
from functools import partial
from typing import TYPE_CHECKING, Self

import typer

from automq.runtime.clock import SystemClock
from automq.runtime.output import OUTPUT
from automq.server.broker import Broker
from automq.server.lifecycle.states import Reason, State
from automq.server.status import StatusLine

if TYPE_CHECKING:
    from rich.live import Live

INTERVAL_S = 1.0


class LiveStatus:
    """Prints `bootstrap: HOST:PORT` when the broker serves; on a terminal a line below tells how it goes."""

    def __init__(self) -> None:
        self._live: Live | None = None
        self._line: StatusLine | None = None
        self._announced = False
        self._shown: tuple[State, Reason | None, str] | None = None

    def __enter__(self) -> Self:
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.live import Live

            # No thread that refreshes: the broker's loop does, once a second. Log lines pass above the line.
            self._live = Live(console=Console(stderr=True), auto_refresh=False, redirect_stdout=False, transient=True)
            self._live.start()
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: types.TracebackType | None
    ) -> None:
        if self._live is not None:
            OUTPUT.do(self._live.stop)

    def watch(self, broker: Broker) -> None:
        """Follow `broker` from its start to its end."""
        broker.lifecycle.subscribe(lambda: self._show_state(broker))
        if self._live is not None:
            self._line = StatusLine(broker, SystemClock())
            broker.every(INTERVAL_S, partial(self._show_line, broker))

    def _show_state(self, broker: Broker) -> None:
        lifecycle = broker.lifecycle
        shown = (lifecycle.state, lifecycle.reason, lifecycle.message if lifecycle.reason is None else "")
        if lifecycle.state is State.SERVING and not self._announced:
            self._announced = True
            self._announce(broker)
        elif shown != self._shown:
            reason = "" if lifecycle.reason is None else f"{lifecycle.reason.value}: "
            line = f"{lifecycle.state.value}: {reason}{lifecycle.message}"
            OUTPUT.do(partial(self._write, line))
        self._shown = shown
        self._show_line(broker)

    def _write(self, line: str) -> None:
        """A line of its own: past the live line it would be joined to it, and stay twice."""
        if self._live is not None:
            self._live.console.print(line, markup=False, highlight=False, soft_wrap=True)
        else:
            typer.echo(line, err=True)

    def _announce(self, broker: Broker) -> None:
        """On lines of their own, and on standard output: scripts wait for the second."""
        http, bootstrap, live = broker.http_address, broker.bootstrap_address, self._live

        def write() -> None:
            if live is not None:
                live.stop()
            typer.echo(f"http: http://{http}")
            typer.echo(f"bootstrap: {bootstrap}")
            if live is not None:
                live.start()

        OUTPUT.do(write)

    def _show_line(self, broker: Broker) -> None:
        """Only while serving: the other states have lines of their own, which stay."""
        if self._live is not None and self._line is not None and self._announced:
            text = self._line.text() if broker.lifecycle.state is State.SERVING else ""
            OUTPUT.do(partial(self._live.update, text, refresh=True))
