"""Scenario scripts: a command, `----`, and what it must print; blocks are separated by empty lines.

    # Comments stand before a block.
    join group=g client=a
    ----
    #1 MEMBER_ID_REQUIRED member=a-1

`run_scenario` feeds every command to an executor and compares the outputs. `pytest --rewrite-golden` writes the actual
outputs into the file; commit only what you understand.
"""

import pathlib
import shlex
from collections.abc import Callable
from dataclasses import dataclass

from tests.support import golden

SEPARATOR = "----"


@dataclass(frozen=True)
class Command:
    """One line of a script: a name, `key=value` pairs, and bare words."""

    name: str
    options: dict[str, str]
    words: tuple[str, ...]

    def get(self, key: str, default: str = "") -> str:
        """The value of `key`."""
        return self.options.get(key, default)


@dataclass
class Block:
    """Comments, one command, and its output."""

    comments: list[str]
    command: str
    output: list[str]


def parse_command(line: str) -> Command:
    """Split as a shell would."""
    name, *rest = shlex.split(line)
    pairs = [word.partition("=") for word in rest]
    options = {key: value for key, sign, value in pairs if sign}
    return Command(name, options, tuple(key for key, sign, _ in pairs if not sign))


def parse_blocks(text: str) -> list[Block]:
    """The script's blocks; a line of its own begins with `#` before a command and is a comment."""
    blocks = []
    for chunk in text.strip().split("\n\n"):
        lines = chunk.splitlines()
        comments = []
        while lines and lines[0].startswith("#"):
            comments.append(lines.pop(0))
        if not lines:
            blocks.append(Block(comments, "", []))
            continue
        command = lines.pop(0)
        assert lines[:1] == [SEPARATOR], f"{SEPARATOR} expected after {command!r}"
        blocks.append(Block(comments, command, lines[1:]))
    return blocks


def render_blocks(blocks: list[Block]) -> str:
    """The script's text."""
    chunks = []
    for block in blocks:
        lines = list(block.comments)
        if block.command:
            lines += [block.command, SEPARATOR, *block.output]
        chunks.append("\n".join(lines))
    return "\n\n".join(chunks) + "\n"


def run_scenario(path: pathlib.Path, execute: Callable[[Command], list[str]]) -> None:
    """Run every command of the script at `path` and compare what it prints."""
    expected = path.read_text()
    blocks = parse_blocks(expected)
    for block in blocks:
        if block.command:
            block.output = execute(parse_command(block.command))
    actual = render_blocks(blocks)
    if golden.rewrite:
        path.write_text(actual)
        return
    assert actual == expected
