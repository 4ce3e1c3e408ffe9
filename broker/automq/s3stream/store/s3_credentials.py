"""Who we are to an S3 store: files in a folder, or whatever botocore finds (environment, web identity, instance role).

Both clients ask here for every request, so that new credentials need no new process: the folder's files are read again
when the store refuses what they said before.
"""

from dataclasses import dataclass
from typing import Any, Protocol

import aiobotocore.session
import botocore.exceptions

from automq.runtime.workers import Workers
from automq.s3stream.ports import StoreCredentialsRejected

ACCESS_KEY_FILE = "access-key"
SECRET_KEY_FILE = "secret-key"
SESSION_TOKEN_FILE = "session-token"


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Credential:
    """What requests are signed with. Never printed."""

    access_key: str
    secret_key: str
    token: str | None


class CredentialSource(Protocol):
    """Where credentials come from."""

    async def current(self) -> Credential:
        """What to sign the next request with. Raises StoreCredentialsRejected when there is nothing."""
        ...

    async def refused(self, credential: Credential) -> bool:
        """The store refused `credential`; whether there is another one by now."""
        ...


class FolderCredentials:
    """The files `access-key`, `secret-key` and, if it is there, `session-token` of one folder: a mounted Secret."""

    def __init__(self, folder: str, *, workers: Workers) -> None:
        self._folder = folder
        self._workers = workers
        self._credential: Credential | None = None

    async def current(self) -> Credential:
        if self._credential is None:
            self._credential = await self._workers.run(self._read)
        return self._credential

    async def refused(self, credential: Credential) -> bool:
        self._credential = None
        return await self.current() != credential

    def _read(self) -> Credential:
        access_key, secret_key, token = (
            self._content(name) for name in (ACCESS_KEY_FILE, SECRET_KEY_FILE, SESSION_TOKEN_FILE)
        )
        if not access_key or not secret_key:
            missing = [
                f"{self._folder}/{name}"
                for name, content in ((ACCESS_KEY_FILE, access_key), (SECRET_KEY_FILE, secret_key))
                if not content
            ]
            raise StoreCredentialsRejected(
                f"{' and '.join(missing)} cannot be read or {'is' if len(missing) == 1 else 'are'} empty: "
                "put the store's credentials there; they are looked for again"
            )
        return Credential(access_key=access_key, secret_key=secret_key, token=token or None)

    def _content(self, name: str) -> str:
        try:
            with open(f"{self._folder}/{name}", encoding="utf-8") as file:
                return file.read().strip()
        except (OSError, UnicodeDecodeError):
            return ""


class AmbientCredentials:
    """botocore's own chain, which also renews what expires."""

    def __init__(self) -> None:
        self._found: Any = None

    async def current(self) -> Credential:
        try:
            if self._found is None:
                self._found = await aiobotocore.session.get_session().get_credentials()
            if self._found is None:
                raise StoreCredentialsRejected(
                    "no credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or automq.storage.credentials.dir"
                )
            frozen = await self._found.get_frozen_credentials()
        except botocore.exceptions.BotoCoreError as error:
            self._found = None
            raise StoreCredentialsRejected(f"no credentials could be had: {error}") from error
        return Credential(access_key=frozen.access_key, secret_key=frozen.secret_key, token=frozen.token)

    async def refused(self, credential: Credential) -> bool:
        self._found = None
        return await self.current() != credential
