"""Pure: how one setting is declared, and how its text becomes a value.

A setting is declared once, as a field of a dataclass in `settings`: name, kind, default, text for the reader. The
loader, the contradictions' messages, DescribeConfigs and the table in docs/broker.md all come from there.
"""

import dataclasses
import enum
import ipaddress
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from automq.s3stream.store.uri import InvalidStoreUri, parse_store_uri

KIB: Final = 1024
MIB: Final = 1024 * KIB
INT32_MAX: Final = 2**31 - 1
INT64_MAX: Final = 2**63 - 1


class Kind(enum.Enum):
    """The types that Kafka gives configuration values; the words are those of its documentation."""

    BOOLEAN = "boolean"
    STRING = "string"
    INT = "int"
    LONG = "long"
    DOUBLE = "double"
    LIST = "list"


class ValueRefused(ValueError):
    """The text is no value of this setting; the message says what would be."""


@dataclass(frozen=True, slots=True)
class Machine:
    """What defaults may depend on."""

    hostname: str = "localhost"
    memory_limit_bytes: int | None = None
    """The cgroup's limit, or all memory there is where that is less; None where nobody knows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """A declaration. `default` gives the value when nobody set one; None as `default` means it must be set."""

    name: str
    kind: Kind
    parse: Callable[[str], Any]
    valid: str
    default: Callable[[Machine], Any] | None
    default_text: str
    doc: str
    used_by: str


def setting(
    name: str,
    value_type: tuple[Kind, Callable[[str], Any], str],
    *,
    default: Any,
    doc: str,
    used_by: str,
    default_text: str | None = None,
) -> Any:
    """A dataclass field that is a setting. `default` may be a function of the machine, or `REQUIRED`."""
    kind, parse, valid = value_type
    computed: Callable[[Machine], Any] | None
    if default is REQUIRED:
        computed = None
    elif callable(default):
        computed = default
    else:
        computed = lambda _machine: default  # noqa: E731
    declared = Setting(
        name=name,
        kind=kind,
        parse=parse,
        valid=valid,
        default=computed,
        default_text=default_text if default_text is not None else _text(default),
        doc=doc,
        used_by=used_by,
    )
    return dataclasses.field(metadata={"setting": declared})


REQUIRED: Final = object()
"""As a default: somebody has to say it."""


def _text(default: Any) -> str:
    if default is REQUIRED:
        return "required"
    if default is None:
        return "none"
    if isinstance(default, bool):
        return "true" if default else "false"
    return str(default)


def boolean() -> tuple[Kind, Callable[[str], bool], str]:
    """true or false."""

    def parse(text: str) -> bool:
        match text.strip().lower():
            case "true":
                return True
            case "false":
                return False
            case _:
                raise ValueRefused("it must be true or false")

    return Kind.BOOLEAN, parse, "true, false"


def integer(*, least: int = 0, most: int = INT32_MAX) -> tuple[Kind, Callable[[str], int], str]:
    """A whole number in [least, most]."""
    top = {INT32_MAX: "", INT64_MAX: ""}.get(most, str(most))
    valid = f"{least}..{top}"

    def parse(text: str) -> int:
        try:
            value = int(text.strip())
        except ValueError:
            raise ValueRefused("it must be a whole number") from None
        if not least <= value <= most:
            raise ValueRefused(f"it must be between {least} and {most}")
        return value

    return Kind.INT if most <= INT32_MAX else Kind.LONG, parse, valid


def string() -> tuple[Kind, Callable[[str], str | None], str]:
    """Any text; an empty one means that there is none."""
    return Kind.STRING, lambda text: text.strip() or None, ""


def store_uri() -> tuple[Kind, Callable[[str], str], str]:
    """A store's place, in its canonical form."""

    def parse(text: str) -> str:
        try:
            return str(parse_store_uri(text.strip()))
        except InvalidStoreUri as error:
            raise ValueRefused(str(error)) from error

    return Kind.STRING, parse, "a store URI"


def one_of(*words: str, refusals: dict[str, str] | None = None) -> tuple[Kind, Callable[[str], str], str]:
    """One of `words`. `refusals` has a message of its own for words that a reader may expect."""

    def parse(text: str) -> str:
        word = text.strip()
        if refusals and word in refusals:
            raise ValueRefused(refusals[word])
        if word not in words:
            raise ValueRefused(f"it must be {' or '.join(words)}")
        return word

    return Kind.STRING, parse, ", ".join(words)


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where to listen, or where clients find a listener. An empty host means every interface."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Listener:
    """One entry of `listeners` or `advertised.listeners`."""

    name: str
    address: Address


def parse_address(text: str) -> Address:
    """HOST:PORT, [IPV6]:PORT or :PORT."""
    host, colon, port_text = text.strip().rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueRefused("an IPv6 address needs brackets, as in [::1]:9092")
    if not colon or not port_text.isascii() or not port_text.isdigit() or int(port_text) > 65535:
        raise ValueRefused("it must be HOST:PORT with a port between 0 and 65535")
    return Address(host=host, port=int(port_text))


def address() -> tuple[Kind, Callable[[str], Address], str]:
    """HOST:PORT."""
    return Kind.STRING, parse_address, "HOST:PORT"


def listener_list() -> tuple[Kind, Callable[[str], tuple[Listener, ...]], str]:
    """NAME://HOST:PORT, comma separated."""

    def parse(text: str) -> tuple[Listener, ...]:
        entries: list[Listener] = []
        for entry in filter(None, (part.strip() for part in text.split(","))):
            name, separator, where = entry.partition("://")
            if not separator or not name.replace("_", "").replace("-", "").isalnum():
                raise ValueRefused("it must be NAME://HOST:PORT, comma separated, as in PLAINTEXT://0.0.0.0:9092")
            if any(name.upper() == known.name for known in entries):
                raise ValueRefused(f"the listener name {name.upper()} occurs twice")
            entries.append(Listener(name=name.upper(), address=parse_address(where)))
        return tuple(entries)

    return Kind.LIST, parse, "NAME://HOST:PORT,..."


def protocol_map() -> tuple[Kind, Callable[[str], dict[str, str]], str]:
    """NAME:PROTOCOL, comma separated."""

    def parse(text: str) -> dict[str, str]:
        entries: dict[str, str] = {}
        for entry in filter(None, (part.strip() for part in text.split(","))):
            name, colon, protocol = entry.partition(":")
            if not colon:
                raise ValueRefused("it must be NAME:PROTOCOL, comma separated, as in CLIENTS:PLAINTEXT")
            if protocol.upper() != "PLAINTEXT":
                raise ValueRefused(
                    f"{protocol} is not served yet; PLAINTEXT is the only protocol: use it where the network is "
                    "trusted, or let a proxy in front of the broker speak TLS"
                )
            entries[name.upper()] = "PLAINTEXT"
        return entries

    return Kind.STRING, parse, "NAME:PLAINTEXT,..."


def count_map() -> tuple[Kind, Callable[[str], dict[str, int]], str]:
    """ADDRESS:COUNT, comma separated."""

    def parse(text: str) -> dict[str, int]:
        entries: dict[str, int] = {}
        for entry in filter(None, (part.strip() for part in text.split(","))):
            host, _, count = entry.rpartition(":")
            try:
                where = ipaddress.ip_address(host.strip().removeprefix("[").removesuffix("]"))
            except ValueError:
                raise ValueRefused(f"{entry} is not ADDRESS:COUNT with an IP address, as in 10.0.0.7:200") from None
            if not count.isascii() or not count.isdigit() or int(count) > INT32_MAX:
                raise ValueRefused(f"{entry} does not end with a number of connections")
            entries[str(where)] = int(count)
        return entries

    return Kind.STRING, parse, "ADDRESS:COUNT,..."
