"""A TCP forwarder in a thread that can be switched off and on: an outage of whatever is behind it."""

import contextlib
import selectors
import socket
import threading
from collections.abc import Iterator
from urllib.parse import urlsplit


class TcpSwitch:
    """Listens on `endpoint`. While it is off it refuses, and breaks what was open."""

    def __init__(self, target: str) -> None:
        parts = urlsplit(target)
        assert parts.hostname is not None
        assert parts.port is not None
        self._target = (parts.hostname, parts.port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.endpoint = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.is_on = True
        self._is_closed = False
        self._peers: dict[socket.socket, socket.socket] = {}
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._run, name="tcp switch")

    def start(self) -> None:
        """Forward from now on."""
        self._thread.start()

    def close(self) -> None:
        """End."""
        self._is_closed = True
        self._thread.join()

    def _run(self) -> None:
        while not self._is_closed:
            for key, _ in self._selector.select(timeout=0.05):
                source = key.fileobj
                assert isinstance(source, socket.socket)
                if source is self._listener:
                    self._accept()
                elif source in self._peers:
                    self._forward(source)
            if not self.is_on:
                self._break_all()
        self._break_all()
        self._listener.close()
        self._selector.close()

    def _accept(self) -> None:
        near, _ = self._listener.accept()
        if not self.is_on:
            near.close()
            return
        far = socket.create_connection(self._target)
        for one, other in ((near, far), (far, near)):
            self._peers[one] = other
            self._selector.register(one, selectors.EVENT_READ)

    def _forward(self, source: socket.socket) -> None:
        try:
            data = source.recv(1 << 16)
            if data:
                self._peers[source].sendall(data)
        except OSError:
            data = b""
        if not data:
            self._break(source)

    def _break(self, source: socket.socket) -> None:
        for end in (source, self._peers[source]):
            self._selector.unregister(end)
            del self._peers[end]
            end.close()

    def _break_all(self) -> None:
        while self._peers:
            self._break(next(iter(self._peers)))


@contextlib.contextmanager
def tcp_switch(target: str) -> Iterator[TcpSwitch]:
    """A switch in front of `target`, on at first."""
    switch = TcpSwitch(target)
    switch.start()
    try:
        yield switch
    finally:
        switch.close()
