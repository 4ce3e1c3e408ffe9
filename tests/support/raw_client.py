"""A client of a few lines on a real socket: for consumers that no library can be, such as one that does not read."""

import contextlib
import itertools
import socket
import struct
from typing import Any

from automq.ids import Offset
from automq.protocol.apis import APIS, ApiKey, encode_request
from automq.protocol.codec import decode_whole
from automq.protocol.messages.fetch import FetchPartition, FetchRequest, FetchTopic
from automq.protocol.schema import Message

FETCH_VERSION = 12


def fetch_of(
    topic: str,
    offsets: dict[int, int],
    *,
    max_wait: int = 500,
    min_bytes: int = 1,
    partition_max_bytes: int = 8_000_000,
    session_id: int = 0,
    session_epoch: int = -1,
) -> FetchRequest:
    """These partitions from these offsets on."""
    partitions = [
        FetchPartition(partition=index, fetch_offset=Offset(offset), partition_max_bytes=partition_max_bytes)
        for index, offset in offsets.items()
    ]
    return FetchRequest(
        max_wait=max_wait,
        min_bytes=min_bytes,
        max_bytes=50_000_000,
        isolation_level=0,
        session_id=session_id,
        session_epoch=session_epoch,
        topics=[FetchTopic(topic=topic, partitions=partitions)] if partitions else [],
    )


class RawClient:
    """One connection, blocking."""

    def __init__(self, address: str, *, receive_bytes: int = 0, client_id: str = "raw") -> None:
        host, port = address.rsplit(":", 1)
        self.socket = socket.socket()
        if receive_bytes:
            # Before it connects: the window is offered then.
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        self.socket.settimeout(60)
        self.socket.connect((host, int(port)))
        self.client_id = client_id
        self._ids = itertools.count(1)
        self._sent: dict[int, tuple[int, int]] = {}

    def send(self, key: ApiKey, version: int, request: Message) -> None:
        """Ask."""
        number = next(self._ids)
        self._sent[number] = (key, version)
        self.socket.sendall(encode_request(APIS[key], version, number, self.client_id, request))

    def read_frame(self) -> bytes:
        """The next answer. Raises ConnectionError when the broker has closed."""
        (size,) = struct.unpack(">i", self._read(4))
        return self._read(size)

    def receive(self) -> Any:
        """The next answer, decoded."""
        frame = self.read_frame()
        key, version = self._sent.pop(int.from_bytes(frame[:4], "big"))
        api = APIS[ApiKey(key)]
        offset = 4 + api.response_header_version(version)
        return decode_whole(api.response_class, version, memoryview(frame), offset)

    def call(self, key: ApiKey, version: int, request: Message) -> Any:
        """Ask and wait."""
        self.send(key, version, request)
        return self.receive()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.socket.close()

    def _read(self, size: int) -> bytes:
        data = bytearray(size)
        view = memoryview(data)
        while view:
            count = self.socket.recv_into(view)
            if not count:
                raise ConnectionError("the broker has closed the connection")
            view = view[count:]
        return bytes(data)


def stalled(address: str, topic: str, offsets: dict[int, int], **options: Any) -> RawClient:
    """A consumer that asks for all it can get, and takes nothing."""
    client = RawClient(address, receive_bytes=4096, **options)
    client.send(ApiKey.FETCH, FETCH_VERSION, fetch_of(topic, offsets))
    return client
