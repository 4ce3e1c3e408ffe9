"""GETs of long ranges, blocking, a piece of the body at a time: in threads, off the event loop.

A reader that merges many objects takes a little of each in turn. Here each of them is one request all the same: while
nobody reads, the server waits, and the kernel holds no more of the body than `RECEIVE_BYTES` says.
"""

import http.client
import socket
from typing import Final

from automq.s3stream.store.s3_credentials import Credential
from automq.s3stream.store.s3_wire import HttpAnswer, Transfer, Wire, headers_of

# What the kernel may hold of a body that nobody reads; it would let that grow to megabytes for each connection.
RECEIVE_BYTES: Final = 512 * 1024
REFUSAL_BYTES_MAX: Final = 1 << 16


class BodyReceiver:
    """One GET at a time. Methods block; none is called while another one runs."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._connection: http.client.HTTPConnection | None = None
        self._socket: socket.socket | None = None
        self._response: http.client.HTTPResponse | None = None

    def open(self, transfer: Transfer, name: str, start: int, end: int, *, credential: Credential) -> HttpAnswer:
        """Ask for bytes [start, end) by a connection of its own: the answer, with its body where it is a refusal.

        Raises OSError or http.client.HTTPException when there is none.
        """
        headers = {"Range": f"bytes={start}-{end - 1}"}
        target, signed = self._wire.sign("GET", name, credential=credential, query={}, headers=headers)
        self._connection = connection = self._wire.connect()
        self._socket = connection.sock
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BYTES)
        self._wire.begin(connection, transfer, "GET", target, signed)
        self._response = response = connection.getresponse()
        body = b"" if response.status < 300 else response.read(REFUSAL_BYTES_MAX)
        return HttpAnswer(status=response.status, headers=headers_of(response), body=body)

    def read_into(self, transfer: Transfer, buffer: memoryview) -> int:
        """Fill `buffer` with what follows; fewer bytes only where the body is over.

        Raises OSError or http.client.HTTPException when the body breaks off.
        """
        response = self._response
        assert self._socket is not None
        assert response is not None
        transfer.begin(self._socket)
        filled = 0
        while filled < len(buffer):
            count = response.readinto(buffer[filled:])
            if not count:
                if response.length:
                    raise http.client.IncompleteRead(b"", response.length)
                break
            filled += count
        return filled

    def close(self) -> None:
        """End the connection, whatever the server still has to send. Does not block; idempotent."""
        response, connection = self._response, self._connection
        self._response = self._connection = self._socket = None
        if response is not None:
            response.close()
        if connection is not None:
            connection.close()
