"""Long bodies taken slowly: the server waits, and the kernel keeps little of them."""

import http.client
import socket
import threading

import pytest

from automq.s3stream.store.s3_credentials import Credential
from automq.s3stream.store.s3_receiver import RECEIVE_BYTES, BodyReceiver
from automq.s3stream.store.s3_wire import Endpoint, Transfer, Wire

CREDENTIAL = Credential(access_key="key", secret_key="secret", token="token")
HEAD = b"HTTP/1.1 206 Partial Content\r\nContent-Length: %d\r\n\r\n"


class Server:
    """Takes one request, and sends what it is told to."""

    def __init__(self, *pieces: bytes) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._pieces = pieces
        self.request = b""
        self.sent = 0
        self.is_blocked = threading.Event()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()
        port = self._listener.getsockname()[1]
        self.wire = Wire(Endpoint(url=f"http://127.0.0.1:{port}", bucket_path="/b", region="us-east-1", proxies={}))

    def _serve(self) -> None:
        connection, _ = self._listener.accept()
        with connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 16)
            connection.settimeout(0.5)
            while b"\r\n\r\n" not in self.request:
                self.request += connection.recv(1 << 16)
            for piece in self._pieces:
                try:
                    connection.sendall(piece)
                except OSError:
                    # Nobody takes it.
                    break
                self.sent += len(piece)
            self.is_blocked.set()

    def close(self) -> None:
        self._listener.close()
        self._thread.join()


def test_body_that_nobody_reads_stays_at_the_server() -> None:
    piece = bytes(64 * 1024)
    server = Server(HEAD % (1000 * len(piece)), *[piece] * 1000)
    receiver = BodyReceiver(server.wire)

    answer = receiver.open(Transfer(), "key", 0, 1000 * len(piece), credential=CREDENTIAL)
    assert server.is_blocked.wait(30)

    assert answer.status == 206
    # The kernel doubles what it is asked for, and some is on its way.
    assert server.sent <= 4 * RECEIVE_BYTES
    receiver.close()
    receiver.close()
    server.close()


def test_range_and_signature_are_sent() -> None:
    server = Server(HEAD % 3, b"abc")
    receiver = BodyReceiver(server.wire)

    receiver.open(Transfer(), "some/key", 7, 10, credential=CREDENTIAL)

    buffer = bytearray(5)
    assert receiver.read_into(Transfer(), memoryview(buffer)) == 3
    assert buffer[:3] == b"abc"
    head = server.request.decode().lower()
    assert head.startswith("get /b/some/key http/1.1")
    assert "range: bytes=7-9" in head
    assert "x-amz-security-token: token" in head
    receiver.close()
    server.close()


def test_body_that_ends_before_its_length_is_no_whole_body() -> None:
    server = Server(HEAD % 10, b"abc")
    receiver = BodyReceiver(server.wire)
    receiver.open(Transfer(), "key", 0, 10, credential=CREDENTIAL)

    with pytest.raises(http.client.IncompleteRead):
        receiver.read_into(Transfer(), memoryview(bytearray(10)))

    receiver.close()
    server.close()


def test_read_that_is_broken_off_ends_at_once() -> None:
    server = Server(HEAD % 10, b"abc")
    receiver = BodyReceiver(server.wire)
    receiver.open(Transfer(), "key", 0, 10, credential=CREDENTIAL)
    transfer = Transfer()
    transfer.break_off()

    with pytest.raises(ConnectionAbortedError):
        receiver.read_into(transfer, memoryview(bytearray(10)))

    receiver.close()
    server.close()
