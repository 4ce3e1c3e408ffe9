"""What a job is, and how the packages of its tool come to be there."""

import json
import os
import pathlib
import shutil
import subprocess
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

FETCH_S = 300.0
CACHE = pathlib.Path(os.environ.get("XDG_CACHE_HOME", pathlib.Path.home() / ".cache")) / "automq-compat"
HERE = pathlib.Path(__file__).parent


class Skipped(Exception):
    """The tool cannot be had here; the message says why."""


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """What a job works with."""

    folder: pathlib.Path
    bootstrap: str
    other: str
    """A second broker's, for jobs that asked for two."""
    prepared: Any
    deadline: float

    @property
    def left_s(self) -> float:
        """Seconds until the job must be done."""
        return max(0.1, self.deadline - time.monotonic())

    def until(self, is_done: Callable[[], object], what: str) -> Any:
        """Ask again and again; what it said. Raises TimeoutError."""
        while not (found := is_done()):
            if time.monotonic() > self.deadline:
                raise TimeoutError(f"not in time: {what}")
            time.sleep(0.2)
        return found


@dataclass(frozen=True)
class Job:
    """`run` returns what was seen, in some words, and raises for what was not."""

    name: str
    run: Callable[[Surroundings], str]
    prepare: Callable[[], Any] = lambda: None
    brokers: int = 1


JOBS: list[Job] = []


def fetched(name: str, marker: str, fetch: Callable[[pathlib.Path], None]) -> pathlib.Path:
    """A folder of the cache that has `marker`, fetched whole or not at all. Raises Skipped."""
    folder = CACHE / name
    if (folder / marker).exists():
        return folder
    partial = CACHE / f"{name}.{os.getpid()}"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        fetch(partial)
        if not (partial / marker).exists():
            raise Skipped(f"{name} has no {marker} after it was fetched")
        shutil.rmtree(folder, ignore_errors=True)
        partial.rename(folder)
    except (OSError, subprocess.SubprocessError) as error:
        raise Skipped(f"{name} cannot be fetched: {error}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return folder


def need(program: str) -> None:
    """Raises Skipped."""
    if shutil.which(program) is None:
        raise Skipped(f"there is no {program} here")


def call(command: Sequence[object], *, timeout_s: float, **options: Any) -> str:
    """Standard output. Raises SubprocessError with what it said."""
    ended = subprocess.run(
        [str(word) for word in command], capture_output=True, text=True, timeout=timeout_s, check=False, **options
    )
    if ended.returncode:
        raise subprocess.SubprocessError(
            f"{command[0]} ended with {ended.returncode}: {(ended.stdout + ended.stderr)[-1500:]}"
        )
    return ended.stdout


def jars(name: str, artifacts: Iterable[str]) -> str:
    """The class path of Maven artifacts (GROUP:ARTIFACT:VERSION) with what they need. Raises Skipped."""
    need("java")
    listed = list(artifacts)

    def fetch(folder: pathlib.Path) -> None:
        need("mvn")
        dependencies = "".join(
            "<dependency><groupId>{}</groupId><artifactId>{}</artifactId><version>{}</version></dependency>".format(
                *artifact.split(":")
            )
            for artifact in listed
        )
        (folder / "pom.xml").write_text(
            '<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>'
            "<groupId>compat</groupId><artifactId>compat</artifactId><version>1</version><packaging>pom</packaging>"
            f"<dependencies>{dependencies}</dependencies></project>"
        )
        call(
            ["mvn", "-q", "-B", "dependency:copy-dependencies", "-DincludeScope=runtime", "-DoutputDirectory=lib"],
            timeout_s=FETCH_S,
            cwd=folder,
        )
        (folder / "complete").write_text(json.dumps(listed))

    return f"{fetched(name, 'complete', fetch)}/lib/*"
