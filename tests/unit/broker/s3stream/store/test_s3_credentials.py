"""Credentials: files that may come late and change, or botocore's own chain."""

import pathlib

import pytest

from automq.runtime.workers import InlineWorkers
from automq.s3stream.ports import StoreCredentialsRejected
from automq.s3stream.store.s3_credentials import AmbientCredentials, Credential, FolderCredentials
from tests.support.s3_server import write_credentials


@pytest.fixture
def folder(tmp_path: pathlib.Path) -> pathlib.Path:
    return tmp_path / "credentials"


def source_of(folder: pathlib.Path) -> FolderCredentials:
    return FolderCredentials(str(folder), workers=InlineWorkers())


async def test_files_are_read_without_their_line_ends(folder: pathlib.Path) -> None:
    write_credentials(folder, access_key="key", secret_key="secret", token="token")

    assert await source_of(folder).current() == Credential(access_key="key", secret_key="secret", token="token")


async def test_token_is_optional(folder: pathlib.Path) -> None:
    write_credentials(folder)

    assert (await source_of(folder).current()).token is None


async def test_missing_and_empty_files_are_named(folder: pathlib.Path) -> None:
    source = source_of(folder)
    with pytest.raises(StoreCredentialsRejected, match=f"^{folder}/access-key and {folder}/secret-key cannot be read"):
        await source.current()

    write_credentials(folder, access_key="")
    with pytest.raises(StoreCredentialsRejected, match=f"^{folder}/access-key cannot be read or is empty"):
        await source.current()

    write_credentials(folder)
    await source.current()


async def test_files_are_read_again_only_when_refused(folder: pathlib.Path) -> None:
    write_credentials(folder, access_key="first")
    source = source_of(folder)
    first = await source.current()
    write_credentials(folder, access_key="second")

    assert await source.current() == first
    assert await source.refused(first)
    assert (await source.current()).access_key == "second"
    assert not await source.refused(await source.current())


def test_secrets_are_not_printed() -> None:
    assert "secret" not in repr(Credential(access_key="key", secret_key="secret", token="secret token"))


async def test_ambient_credentials_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "from")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "environment")
    source = AmbientCredentials()

    credential = await source.current()

    assert (credential.access_key, credential.secret_key) == ("from", "environment")
    assert not await source.refused(credential)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "changed")
    assert await source.refused(credential)


async def test_no_ambient_credentials_is_rejected_with_a_remedy(
    monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE", "AWS_ROLE_ARN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("HOME", str(tmp_path))

    with pytest.raises(StoreCredentialsRejected, match=r"set AWS_ACCESS_KEY_ID.*or automq\.storage\.credentials\.dir"):
        await AmbientCredentials().current()
