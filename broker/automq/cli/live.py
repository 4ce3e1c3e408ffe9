"""What `automq up` shows: where to connect, once it serves, and a status line on a terminal."""

import sys
import types
from typing import TYPE_CHECKING, Self

import typer

from automq.server.broker import Broker
from automq.server.lifecycle import State
from automq.server.status import status_line

if TYPE_CHECKING:
    from rich.status import Status


class LiveStatus:
    """Prints `bootstrap: HOST:PORT` when the broker serves; on a terminal a line below tells how it is."""

    def __init__(self) -> None:
        self._status: Status | None = None
        self._announced = False

    def __enter__(self) -> Self:
        if sys.stderr.isatty():
            from rich.console import Console

            self._status = Console(stderr=True).status("starting")
            self._status.start()
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: types.TracebackType | None
    ) -> None:
        if self._status is not None:
            self._status.stop()

    def watch(self, broker: Broker) -> None:
        """Follow `broker` from its start to its end."""
        broker.lifecycle.subscribe(lambda: self._show_state(broker))
        if self._status is not None:
            broker.every(1.0, lambda: self._show_status(broker))

    def _show_state(self, broker: Broker) -> None:
        if broker.lifecycle.state is State.SERVING and not self._announced:
            self._announced = True
            if self._status is not None:
                self._status.stop()
            typer.echo(f"http: http://{broker.http_address}")
            typer.echo(f"bootstrap: {broker.bootstrap_address}")
            if self._status is not None:
                self._status.start()
        elif not self._announced or broker.lifecycle.state is not State.SERVING:
            typer.echo(f"{broker.lifecycle.state.value}: {broker.lifecycle.message}", err=True)
        self._show_status(broker)

    def _show_status(self, broker: Broker) -> None:
        if self._status is not None:
            self._status.update(status_line(broker))
