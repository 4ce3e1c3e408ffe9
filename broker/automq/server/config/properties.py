"""Pure: Java properties files, as Kafka's configuration files are: UTF-8, escapes, continued lines.

Other than Java's own reader, a key that occurs twice and an escape that is malformed are errors: in a configuration
file both are mistakes.
"""

import re
from typing import Final

_ESCAPES: Final = {"t": "\t", "n": "\n", "r": "\r", "f": "\f"}
_BLANK: Final = " \t\f"
_LINE: Final = re.compile(r"\r\n|\r|\n")


class PropertiesError(Exception):
    """The text is not a properties file. The message names the line, and the key where there is one."""

    def __init__(self, message: str, key: str | None = None) -> None:
        super().__init__(message)
        self.key = key


def parse_properties(data: bytes) -> dict[str, str]:
    """The keys and values of a file, in its order."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise PropertiesError(f"byte {error.start} is not UTF-8") from error
    values: dict[str, str] = {}
    first_lines: dict[str, int] = {}
    for number, line in _logical_lines(text):
        raw_key, raw_value = _split(line)
        key = _unescape(raw_key, number)
        if key in values:
            raise PropertiesError(f"line {number}: {key} is already given in line {first_lines[key]}", key)
        values[key] = _unescape(raw_value, number)
        first_lines[key] = number
    return values


def _logical_lines(text: str) -> list[tuple[int, str]]:
    """(number of its first line, line) without blanks, comments, and with continued lines joined."""
    logical: list[tuple[int, str]] = []
    pending: tuple[int, str] | None = None
    for number, line in enumerate(_LINE.split(text), start=1):
        content = line.lstrip(_BLANK)
        if pending is None:
            if not content or content[0] in "#!":
                continue
            pending = (number, "")
        start, joined = pending
        continued = (len(content) - len(content.rstrip("\\"))) % 2 == 1
        pending = (start, joined + (content[:-1] if continued else content))
        if not continued:
            logical.append(pending)
            pending = None
    if pending is not None:
        logical.append(pending)
    return logical


def _split(line: str) -> tuple[str, str]:
    """Key and value, still escaped: the key ends at the first `=`, `:` or blank that is not escaped."""
    end = 0
    while end < len(line) and line[end] not in "=:" + _BLANK:
        end += 2 if line[end] == "\\" else 1
    rest = line[end:].lstrip(_BLANK)
    if rest[:1] in ("=", ":"):
        rest = rest[1:].lstrip(_BLANK)
    return line[:end], rest


def _unescape(text: str, line_number: int) -> str:
    if "\\" not in text:
        return text
    parts: list[str] = []
    position = 0
    while position < len(text):
        character = text[position]
        position += 1
        if character != "\\":
            parts.append(character)
            continue
        escaped = text[position : position + 1]
        position += 1
        if escaped == "u":
            digits = text[position : position + 4]
            if not re.fullmatch("[0-9a-fA-F]{4}", digits):
                raise PropertiesError(f"line {line_number}: \\u needs four hexadecimal digits")
            parts.append(chr(int(digits, 16)))
            position += 4
        else:
            parts.append(_ESCAPES.get(escaped, escaped))
    # Characters outside the basic plane are written as two escapes: join the surrogates.
    return "".join(parts).encode("utf-16", "surrogatepass").decode("utf-16", "replace")
