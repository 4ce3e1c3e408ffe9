"""Where a cluster's objects lie, as one line of text, and the adapter for it.

s3://BUCKET[/PREFIX][?endpoint=URL&region=R&path_style=true&checksum=md5]
file:///FOLDER
memory:
"""

import enum
import importlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

from automq.runtime.cpu import MeteredWorkers
from automq.runtime.entropy import Entropy
from automq.runtime.workers import ThreadWorkers, Workers
from automq.s3stream.ports import ObjectStorage
from automq.s3stream.store.keys import InvalidKey, check_key
from automq.s3stream.store.memory import MemoryStore
from automq.s3stream.store.s3_checksums import Checksum

_SHAPES: Final = "s3://BUCKET[/PREFIX][?endpoint=URL&region=R&path_style=true], file:///FOLDER"
_BUCKET: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,254}")
_CHECKSUMS: Final = tuple(checksum.value for checksum in Checksum)
_BOOLEANS: Final[Mapping[str, bool]] = {"true": True, "false": False}


class InvalidStoreUri(ValueError):
    """The text names no store; the message says what is wrong with it and what would be right."""


class StoreKind(enum.Enum):
    """The scheme of a store URI."""

    S3 = "s3"
    FILE = "file"
    MEMORY = "memory"


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreUri:
    """A store's place. Unused fields are empty: a folder has no bucket. `str()` gives the canonical text."""

    kind: StoreKind
    folder: str = ""
    """Absolute path of a file store."""
    bucket: str = ""
    prefix: str = ""
    """Before every key in the bucket, without a slash at its ends."""
    endpoint: str | None = None
    region: str | None = None
    path_style: bool | None = None
    """None: path style where an endpoint is named, else the bucket is part of the host name."""
    checksum: Checksum = Checksum.CRC32C
    """What the store verifies bodies with."""

    def __str__(self) -> str:
        match self.kind:
            case StoreKind.MEMORY:
                return "memory:"
            case StoreKind.FILE:
                return f"file://{quote(self.folder)}"
            case StoreKind.S3:
                options = {"endpoint": self.endpoint, "region": self.region}
                if self.path_style is not None:
                    options["path_style"] = str(self.path_style).lower()
                if self.checksum is not Checksum.CRC32C:
                    options["checksum"] = self.checksum.value
                query = urlencode({name: value for name, value in options.items() if value is not None}, safe=":/")
                path = f"/{self.prefix}" if self.prefix else ""
                return f"s3://{self.bucket}{path}{'?' if query else ''}{query}"


def parse_store_uri(text: str) -> StoreUri:
    """The place that `text` names. Raises InvalidStoreUri."""
    if text == "memory:":
        return StoreUri(kind=StoreKind.MEMORY)
    scheme, separator, _ = text.partition("://")
    if not separator or scheme not in ("s3", "file"):
        raise InvalidStoreUri(f"{text!r} is no store URI; write {_SHAPES}")
    try:
        parts = urlsplit(text)
    except ValueError as error:
        raise InvalidStoreUri(f"{text!r} is no store URI: {error}; write {_SHAPES}") from error
    if parts.fragment:
        raise InvalidStoreUri(f"{text!r} contains '#', which no store URI has; write {_SHAPES}")
    return _parse_file(text, parts.netloc, parts.path, parts.query) if scheme == "file" else _parse_s3(text)


def _parse_file(text: str, host: str, path: str, query: str) -> StoreUri:
    if host not in ("", "localhost"):
        raise InvalidStoreUri(
            f"{text!r} names the host {host!r}; a folder is written with three slashes: file:///{host}{path}"
        )
    if query:
        raise InvalidStoreUri(f"{text!r} has options; a file store takes none")
    folder = unquote(path).rstrip("/")
    if not folder or "\0" in folder or any(part in ("", ".", "..") for part in folder.split("/")[1:]):
        raise InvalidStoreUri(f"{text!r} names no folder; write an absolute path without '.' and '..': file:///FOLDER")
    return StoreUri(kind=StoreKind.FILE, folder=folder)


def _parse_s3(text: str) -> StoreUri:
    parts = urlsplit(text)
    if not _BUCKET.fullmatch(parts.netloc):
        raise InvalidStoreUri(f"{text!r} names no bucket that S3 would take ({parts.netloc!r}); write {_SHAPES}")
    prefix = parts.path.strip("/")
    if prefix:
        try:
            check_key(prefix)
        except InvalidKey as error:
            raise InvalidStoreUri(f"{text!r}: the prefix is none: {error}") from error
    options = _options(text, parts.query)
    endpoint = options.get("endpoint")
    if endpoint is not None and not re.fullmatch(r"https?://[^/?#]+(/[^?#]*)?", endpoint):
        raise InvalidStoreUri(f"{text!r}: endpoint={endpoint!r} is no URL; write endpoint=https://HOST[:PORT]")
    checksum = options.get("checksum", Checksum.CRC32C.value)
    if checksum not in _CHECKSUMS:
        raise InvalidStoreUri(f"{text!r}: checksum is {' or '.join(_CHECKSUMS)}, not {checksum!r}")
    path_style = options.get("path_style")
    if path_style is not None and path_style not in _BOOLEANS:
        raise InvalidStoreUri(f"{text!r}: path_style is true or false, not {path_style!r}")
    return StoreUri(
        kind=StoreKind.S3,
        bucket=parts.netloc,
        prefix=prefix,
        endpoint=endpoint.rstrip("/") if endpoint is not None else None,
        region=options.get("region"),
        path_style=_BOOLEANS[path_style] if path_style is not None else None,
        checksum=Checksum(checksum),
    )


def _options(text: str, query: str) -> dict[str, str]:
    options: dict[str, str] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name not in ("endpoint", "region", "path_style", "checksum"):
            raise InvalidStoreUri(
                f"{text!r} has the option {name!r}; known are endpoint, region, path_style and checksum"
            )
        if name in options:
            raise InvalidStoreUri(f"{text!r} has the option {name!r} twice")
        if not value:
            raise InvalidStoreUri(f"{text!r} has the option {name!r} without a value")
        options[name] = value
    return options


def load_adapter(uri: StoreUri) -> None:
    """Import what the adapter for `uri` consists of: before an event loop runs, which importing would stop."""
    match uri.kind:
        case StoreKind.FILE:
            importlib.import_module("automq.s3stream.store.file")
        case StoreKind.S3:
            for name in ("s3", "s3_bulk", "s3_clients"):
                importlib.import_module(f"automq.s3stream.store.{name}")
        case StoreKind.MEMORY:
            pass


def open_store(
    uri: StoreUri,
    *,
    workers: Workers,
    entropy: Entropy,
    credentials_folder: str | None = None,
    single_put_bytes_max: int | None = None,
) -> ObjectStorage:
    """The adapter for `uri`. Does no I/O by itself; a `memory:` store is a new one each time.

    Where large bodies go up in parts, those up to `single_put_bytes_max` are one request; None: the adapter's choice.
    """
    match uri.kind:
        case StoreKind.MEMORY:
            return MemoryStore()
        case StoreKind.FILE:
            from automq.s3stream.store.file import FileStore

            return FileStore(uri.folder, workers=workers, entropy=entropy)
        case StoreKind.S3:
            # Imported here: it takes half a second, which a broker on a folder need not wait.
            from automq.s3stream.store.s3 import S3Store
            from automq.s3stream.store.s3_bulk import PARTS_INFLIGHT_MAX, SINGLE_PUT_BYTES_MAX
            from automq.s3stream.store.s3_clients import S3Place

            return S3Store(
                S3Place(
                    bucket=uri.bucket,
                    endpoint=uri.endpoint,
                    region=uri.region,
                    path_style=uri.path_style,
                    checksum=uri.checksum,
                ),
                prefix=uri.prefix,
                workers=workers,
                make_senders=lambda: MeteredWorkers(ThreadWorkers(threads=PARTS_INFLIGHT_MAX)),
                entropy=entropy,
                credentials_folder=credentials_folder,
                single_put_bytes_max=single_put_bytes_max or SINGLE_PUT_BYTES_MAX,
            )
