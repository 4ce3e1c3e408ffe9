"""Log lines as text and as JSON."""

import json
import logging

from automq.server.observability.logs import FieldFormatter, JsonFormatter, LogFormat, level_of


def record(message: str = "state changed", **fields: object) -> logging.LogRecord:
    made = logging.LogRecord("automq.test", logging.WARNING, "file", 1, message, (), None)
    made.created, made.msecs = 1_700_000_000.25, 250.0
    vars(made).update(fields)
    return made


def test_text_has_time_in_utc_level_logger_phrase_and_fields() -> None:
    line = FieldFormatter().format(record(state="Serving", what="it goes on", empty="", number=3))

    assert line == (
        "2023-11-14T22:13:20.250Z WARNING automq.test: state changed state=Serving what='it goes on' empty='' number=3"
    )


def test_value_of_a_client_cannot_begin_a_line_or_a_field() -> None:
    line = FieldFormatter().format(record(client="x\nERROR faked", other="a=b", third='say"'))

    assert "\n" not in line
    assert r"client='x\nERROR faked'" in line
    assert "other='a=b'" in line


def test_json_is_one_object_a_line_with_its_types() -> None:
    line = JsonFormatter().format(record(state="Serving", what="two\nlines", number=3, level="mine"))

    assert "\n" not in line
    assert json.loads(line) == {
        "time": "2023-11-14T22:13:20.250Z",
        "level": "WARNING",
        "logger": "automq.test",
        "message": "state changed",
        "state": "Serving",
        "what": "two\nlines",
        "number": 3,
        "level_": "mine",
    }


def test_traceback_is_a_field_of_json_and_lines_of_text() -> None:
    try:
        raise ValueError("broken")
    except ValueError as error:
        failed = record()
        failed.exc_info = (type(error), error, error.__traceback__)

    assert "ValueError: broken" in json.loads(JsonFormatter().format(failed))["traceback"]
    assert FieldFormatter().format(failed).count("\n") > 1


def test_every_format_and_level_of_the_settings_is_known() -> None:
    assert {each.value for each in LogFormat} == {"text", "json"}
    assert [level_of(name) for name in ("debug", "info", "warning", "error")] == [10, 20, 30, 40]
