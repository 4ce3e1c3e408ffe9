"""PUTs from threads: connections are used again, dead ones are not, early refusals are heard."""

import contextlib
import dataclasses
import http.server
import pathlib
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from automq.s3stream.store.s3_checksums import Checksum
from automq.s3stream.store.s3_credentials import Credential
from automq.s3stream.store.s3_sender import BodySender, SentBody
from automq.s3stream.store.s3_wire import Endpoint, Transfer, Wire

CREDENTIAL = Credential(access_key="key", secret_key="secret", token=None)


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_PUT(self) -> None:
        server: Any = self.server
        server.ports.append(self.client_address[1])
        server.targets.append(self.path)
        if server.refuses_early:
            self.send_response(403)
            self.send_header("Content-Length", "0")
            self.send_header("Connection", "close")
            self.end_headers()
            self.close_connection = True
            return
        body = self.rfile.read(int(self.headers["Content-Length"]))
        server.bodies.append(body)
        with contextlib.suppress(OSError):
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()
        self.close_connection = server.closes

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Any]:
    served: Any = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    served.ports, served.targets, served.bodies = [], [], []
    served.refuses_early = served.closes = False
    thread = threading.Thread(target=served.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield served
    served.shutdown()
    served.server_close()
    thread.join()


def sender_of(server: Any, *, proxies: dict[str, str] | None = None, url: str = "") -> BodySender:
    host, port = server.server_address
    place = Endpoint(url=url or f"http://{host}:{port}", bucket_path="/b", region="us-east-1", proxies=proxies or {})
    return BodySender(Wire(place))


def put(sender: BodySender, *body: bytes) -> SentBody:
    return sender.put(
        Transfer(),
        "a prefix/ö/key",
        [memoryview(buffer) for buffer in body],
        credential=CREDENTIAL,
        checksum=Checksum.CRC32C,
        query={},
        headers={},
    )


def test_connection_is_used_again(server: Any) -> None:
    sender = sender_of(server)

    assert [put(sender, b"body ", b"%d" % number).answer.status for number in range(3)] == [200] * 3

    assert len(set(server.ports)) == 1
    assert server.bodies == [b"body 0", b"body 1", b"body 2"]
    assert server.targets[0] == "/b/a%20prefix/%C3%B6/key"
    sender.close()


def test_connection_that_the_server_closed_is_not_used_again(server: Any) -> None:
    sender = sender_of(server)
    server.closes = True
    put(sender, b"first")
    (kept,) = sender._idle
    assert kept.sock.recv(1, socket.MSG_PEEK) == b""

    put(sender, b"second")

    assert server.bodies == [b"first", b"second"]
    assert len(set(server.ports)) == 2
    sender.close()


def test_refusal_before_the_body_is_heard(server: Any) -> None:
    sender = sender_of(server)
    server.refuses_early = True

    sent = put(sender, bytes(1000))

    assert sent.answer.status == 403
    assert sender._idle == []


def test_transfer_that_is_broken_off_ends_at_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        break_off_a_transfer_to(listener)


def break_off_a_transfer_to(listener: socket.socket) -> None:
    server: Any = type("Server", (), {"server_address": listener.getsockname()})
    sender = sender_of(server)
    transfer = Transfer()
    threading.Timer(0.2, transfer.break_off).start()

    with pytest.raises(ConnectionError):
        sender.put(
            transfer,
            "key",
            [memoryview(bytes(64 << 20))],
            credential=CREDENTIAL,
            checksum=Checksum.CRC32C,
            query={},
            headers={},
        )

    with pytest.raises(ConnectionAbortedError):
        sender.put(transfer, "key", [], credential=CREDENTIAL, checksum=Checksum.CRC32C, query={}, headers={})


def test_half_a_body_ends_with_the_connection(server: Any) -> None:
    sender = sender_of(server)

    sender.put_half("key", b"0123456789", credential=CREDENTIAL, checksum=Checksum.CRC32C, headers={})

    assert server.bodies == [b"01234"]
    assert sender._idle == []


def test_proxy_is_asked_for_the_whole_url(server: Any) -> None:
    host, port = server.server_address
    sender = sender_of(server, url="http://store.example", proxies={"http": f"http://{host}:{port}"})

    assert put(sender, b"body").answer.status == 200

    assert server.targets == ["http://store.example/b/a%20prefix/%C3%B6/key"]
    sender.close()


def test_headers_that_mean_something_are_signed() -> None:
    place = Endpoint(url="http://127.0.0.1:1", bucket_path="/b", region="us-east-1", proxies={})
    target, headers = Wire(place).sign(
        "PUT", "key", credential=CREDENTIAL, query={"partNumber": 1}, headers={"If-None-Match": "*"}
    )

    assert target == "/b/key?partNumber=1"
    assert "SignedHeaders=host;if-none-match;x-amz-content-sha256;x-amz-date" in headers["Authorization"]


@pytest.fixture
def certificate(tmp_path: pathlib.Path) -> pathlib.Path:
    """A key and a certificate for 127.0.0.1, signed by itself."""
    program = shutil.which("openssl")
    if program is None:
        pytest.skip("there is no openssl here")
    path = tmp_path / "server.pem"
    made = [program, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    made += ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run([*made, "-keyout", str(path), "-out", f"{path}.crt"], check=True, capture_output=True)
    path.write_text(path.read_text() + pathlib.Path(f"{path}.crt").read_text())
    return path


def test_body_goes_out_by_tls_to_whom_the_bundle_trusts(server: Any, certificate: pathlib.Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    host, port = server.server_address
    place = Endpoint(
        url=f"https://{host}:{port}", bucket_path="", region="us-east-1", proxies={}, ca_file=f"{certificate}.crt"
    )
    sender = BodySender(Wire(place))
    body = bytes(range(256)) * 20_000

    assert [put(sender, body, b"tail").answer.status for _ in range(3)] == [200] * 3
    sender.put_half("key", body, credential=CREDENTIAL, checksum=Checksum.CRC32C, headers={})

    assert server.bodies[:3] == [body + b"tail"] * 3
    assert len(set(server.ports[:3])) == 1
    with pytest.raises(ssl.SSLCertVerificationError):
        put(BodySender(Wire(dataclasses.replace(place, ca_file=None))), b"x")
    sender.close()
