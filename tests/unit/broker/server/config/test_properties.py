"""Java properties files."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from automq.server.config.properties import PropertiesError, parse_properties


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a=b", {"a": "b"}),
        ("a: b", {"a": "b"}),
        ("a b c", {"a": "b c"}),
        ("  a \t = b ", {"a": "b "}),
        ("a", {"a": ""}),
        ("a=", {"a": ""}),
        ("a==b", {"a": "=b"}),
        ("# comment\n! comment\n\na=b\r\nc=d\re=f", {"a": "b", "c": "d", "e": "f"}),
        ("a=b\\\n   c", {"a": "bc"}),
        ("a=b\\\\\nc=d", {"a": "b\\", "c": "d"}),
        ("a=b\\\n# no comment", {"a": "b# no comment"}),
        (r"a\ b\:c\=d=e", {"a b:c=d": "e"}),
        (r"a=\t\n\r\f\q\\", {"a": "\t\n\r\fq\\"}),
        (r"a=\u00fc\uD83D\uDE00", {"a": "\u00fc\U0001f600"}),
        ("a=\u00fc", {"a": "\u00fc"}),
        ("a=b\\", {"a": "b"}),
    ],
)
def test_text_is_read_as_java_reads_it(text: str, expected: dict[str, str]) -> None:
    assert parse_properties(text.encode()) == expected


def test_byte_order_mark_is_skipped() -> None:
    assert parse_properties(b"\xef\xbb\xbfa=b") == {"a": "b"}


def test_key_given_twice_is_refused_with_both_lines() -> None:
    with pytest.raises(PropertiesError, match=r"line 3: a is already given in line 1") as refused:
        parse_properties(b"a=1\nb=2\na=1\n")
    assert refused.value.key == "a"


def test_malformed_escape_is_refused() -> None:
    with pytest.raises(PropertiesError, match="line 1"):
        parse_properties(b"a=\\u12x4")


def test_text_that_is_not_utf8_is_refused() -> None:
    with pytest.raises(PropertiesError, match="byte 2 is not UTF-8"):
        parse_properties(b"a=\xff")


def escape(text: str, *, key: bool) -> str:
    special = set("\\\t\n\r\f#!=: ") if key else set("\\\t\n\r\f")
    named = {"\t": "\\t", "\n": "\\n", "\r": "\\r", "\f": "\\f"}
    escaped = "".join(named.get(c, "\\" + c) if c in special else c for c in text)
    return escaped if key or not escaped.startswith((" ", "=", ":")) else "\\" + escaped


names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)
texts = st.text(st.characters(exclude_categories=["Cs"]))


@given(st.dictionaries(names.filter(lambda name: name[0] != "\ufeff"), texts))
def test_escaped_text_comes_back(values: dict[str, str]) -> None:
    lines = [f"{escape(key, key=True)}={escape(value, key=False)}" for key, value in values.items()]
    assert parse_properties("\n".join(lines).encode()) == values
