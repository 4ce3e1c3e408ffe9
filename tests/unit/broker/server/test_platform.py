"""Addresses are taken before anything else is touched."""

import asyncio
import socket

import pytest

from automq.server.config.setting import Address
from automq.server.lifecycle.states import Reason, Refused
from automq.server.platform import SystemNetwork

ANY = Address(host="127.0.0.1", port=0)


def test_bound_address_is_taken_before_anybody_listens() -> None:
    network = SystemNetwork()
    first = network.bind(ANY)

    with pytest.raises(Refused) as refused:
        network.bind(Address(host="127.0.0.1", port=first.port))

    assert refused.value.reason is Reason.ADDRESS_IN_USE
    first.close()


def test_bound_address_refuses_connections() -> None:
    bound = SystemNetwork().bind(ANY)

    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", bound.port))
    bound.close()


class Hello(asyncio.Protocol):
    """Closes first: the side that does so is the one which lingers."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.close()


async def test_address_can_be_taken_while_a_predecessors_connections_linger() -> None:
    network = SystemNetwork()
    first = network.bind(ANY)
    port = first.port
    server = await network.accept(first, Hello)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    assert await reader.read() == b""
    writer.close()
    await writer.wait_closed()
    server.close()
    first.close()

    second = network.bind(Address(host="127.0.0.1", port=port))

    assert second.port == port
    second.close()


def test_address_of_another_machine_is_a_wrong_setting() -> None:
    with pytest.raises(Refused) as refused:
        SystemNetwork().bind(Address(host="192.0.2.1", port=0))
    assert refused.value.reason is Reason.INVALID_SETTINGS


def test_name_that_does_not_resolve_is_a_wrong_setting() -> None:
    with pytest.raises(Refused) as refused:
        SystemNetwork().bind(Address(host="no.such.host.invalid", port=0))
    assert refused.value.reason is Reason.INVALID_SETTINGS
