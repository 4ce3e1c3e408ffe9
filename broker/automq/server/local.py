"""A broker on a laptop: its data in a folder, which only one process may use at a time."""

import contextlib
import errno
import fcntl
import os
import pathlib
import socket
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from automq.server.config.settings import InvalidSettings, Settings, load_settings

LOCK_NAME: Final = "lock"
HTTP_PORT: Final = 9404

# A laptop's cluster has one broker and few members: nobody else is worth waiting three seconds for, as in the
# server.properties that Kafka ships.
LOCAL_DEFAULTS: Final[Mapping[str, str]] = {
    "node.id": "1",
    "group.initial.rebalance.delay.ms": "0",
    "offsets.topic.replication.factor": "1",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalOptions:
    """What `automq up` was told."""

    data_folder: pathlib.Path
    port: int
    bind: str
    advertised: str | None
    store: str | None
    wal: str
    flags: Sequence[str] = ()


def local_settings(options: LocalOptions, *, environment: Mapping[str, str] | None = None) -> Settings:
    """The settings of an embedded broker. `--set` wins over the options, which win over the environment."""
    host = options.bind
    advertised = options.advertised or ("localhost" if host in ("0.0.0.0", "::", "") else host)
    texts = {
        **LOCAL_DEFAULTS,
        "listeners": f"PLAINTEXT://{bracketed(host)}:{options.port}",
        "advertised.listeners": f"PLAINTEXT://{bracketed(advertised)}:{options.port}",
        "automq.storage.uri": options.store or f"file://{options.data_folder.absolute()}/store",
        "automq.wal.type": options.wal,
        "automq.http.address": f"{bracketed(host)}:{free_port_or(host, HTTP_PORT)}",
    }
    given = {flag.partition("=")[0].strip() for flag in options.flags}
    flags = [*options.flags, *(f"{key}={text}" for key, text in texts.items() if key not in given)]
    return load_settings(flags=flags, environment=environment)


def bracketed(host: str) -> str:
    """An address of IPv6 as it stands before a port."""
    return f"[{host}]" if ":" in host else host


def free_port_or(host: str, port: int) -> int:
    """`port`, or 0 (a free one) when somebody listens there."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            # Whatever else is wrong with the address is told when it is bound, by its own name.
            return 0 if error.errno == errno.EADDRINUSE else port
    return port


@contextlib.contextmanager
def locked_folder(folder: pathlib.Path) -> Iterator[None]:
    """Make `folder` this process's own. Raises InvalidSettings with the pid of the process that has it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise InvalidSettings(
            "--data-dir", f"the folder {folder} cannot be used: {error.strerror}; choose another --data-dir"
        ) from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            pid = os.read(descriptor, 32).decode(errors="replace").strip() or "unknown"
            raise InvalidSettings(
                "--data-dir",
                f"the folder {folder} is in use by process {pid}; stop that process or choose another --data-dir",
            ) from error
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        # The file stays: removing it would let two processes lock two files of one name.
        os.close(descriptor)
