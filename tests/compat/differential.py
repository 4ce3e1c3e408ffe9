"""Asks two brokers the same questions and compares the answers; Kafka's are recorded in tests/golden/differential.

`python -m tests.compat.differential --record HOST:PORT` asks Kafka anew; `--ask HOST:PORT` shows what another broker
answers otherwise. A question is a conversation on one connection, written in `questions` as plain data; answers are
compared as plain data, field by field; of what is of a run (ids, addresses) it is compared whether it is there.
"""

import argparse
import dataclasses
import json
import pathlib
import re
import socket
import time
import typing
import uuid
from collections.abc import Mapping
from types import UnionType
from typing import Any

from automq.protocol.apis import APIS, ApiKey, encode_request
from automq.protocol.codec import decode, decode_whole
from automq.protocol.messages.header import ResponseHeader
from automq.protocol.schema import Message
from tests.compat.log_questions import LOG_QUESTIONS
from tests.compat.questions import QUESTIONS as FIRST_QUESTIONS
from tests.compat.questions import Ask
from tests.support.batches import build_batch

QUESTIONS = {**FIRST_QUESTIONS, **LOG_QUESTIONS}
GOLDEN = pathlib.Path(__file__).parents[1] / "golden/differential"
TIMEOUT_S = 20
RANDOM_PART = re.compile("[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
TRIES_MAX = 50
LATER = (14, 15, 16)
"""COORDINATOR_LOAD_IN_PROGRESS, COORDINATOR_NOT_AVAILABLE, NOT_COORDINATOR."""

# Whose values are of a run, or of a broker: that there is one is compared.
OF_A_RUN = frozenset({"cluster_id", "finalized_features_epoch", "host", "port", "producer_id", "session_id"})


class Conversation:
    """One connection, and the values that earlier answers gave later requests."""

    def __init__(self, address: str, names: Mapping[str, str], *, settle_s: float) -> None:
        self._settle_s = settle_s
        self._address = address
        self._names: dict[str, Any] = dict(names)
        self._sent = 0
        self._connect()

    def _connect(self) -> None:
        host, port = self._address.rsplit(":", 1)
        self._socket = socket.create_connection((host, int(port)), timeout=TIMEOUT_S)

    def close(self) -> None:
        self._socket.close()

    def ask(self, question: Ask) -> Any:
        """The answer without noise, or the word 'closed' when the broker closes the connection instead."""
        answer = self.ask_raw(question)
        for _ in range(TRIES_MAX):
            if not _comes_later(answer):
                break
            time.sleep(0.2)
            answer = self.ask_raw(question)
        return self._without_noise(answer)

    def ask_raw(self, question: Ask) -> Any:
        """The answer as plain data, whole."""
        api = APIS[ApiKey[question.api].value]
        version = question.version
        request = _build(api.request_class, self._filled(question.body))
        self._sent += 1
        frame = encode_request(api, version, self._sent, "differential", request)
        self._socket.sendall(frame)
        try:
            body = self._frame()
        except (ConnectionError, EOFError):
            self.close()
            self._connect()
            return "closed"
        _, offset = decode(ResponseHeader, api.response_header_version(version), body)
        answer = decode_whole(api.response_class, version, body, offset)
        if question.api == "CREATE_TOPICS":
            time.sleep(self._settle_s)
        plain = _plain(answer)
        for name, path in question.remember.items():
            self._names[name] = _at(plain, path)
        return plain

    def _frame(self) -> bytes:
        size = int.from_bytes(self._exactly(4), "big")
        return self._exactly(size)

    def _exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            chunk = self._socket.recv(size - len(data))
            if not chunk:
                raise EOFError
            data += chunk
        return data

    def _filled(self, value: Any) -> Any:
        """`$name` becomes what was remembered, `{"batch": ...}` a record batch."""
        if isinstance(value, str) and value.startswith("$"):
            return self._names[value[1:]]
        if isinstance(value, dict):
            if "batch" in value:
                return _batch(**{key: self._filled(item) for key, item in value["batch"].items()})
            return {key: self._filled(item) for key, item in value.items()}
        if isinstance(value, list):
            return [self._filled(item) for item in value]
        return value

    def _without_noise(self, value: Any) -> Any:
        if isinstance(value, dict):
            return {
                key: f"<{key}>" if key in OF_A_RUN and item not in (None, "", 0, -1) else self._without_noise(item)
                for key, item in value.items()
            }
        if isinstance(value, list):
            clean = [self._without_noise(item) for item in value]
            # Kafka answers about groups in an order of its own.
            is_of_groups = all(isinstance(item, dict) and "group_id" in item for item in clean)
            return sorted(clean, key=lambda item: str(item["group_id"])) if is_of_groups else clean
        if isinstance(value, uuid.UUID):
            return "<none>" if value.int == 0 else "<id>"
        if isinstance(value, (bytes, memoryview)):
            return bytes(value).hex()
        if isinstance(value, str):
            for name, known in self._names.items():
                if isinstance(known, str) and known and value == known:
                    return f"<{name}>"
            return RANDOM_PART.sub("<random>", value)
        return value


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return {item.name: _plain(getattr(value, item.name)) for item in dataclasses.fields(value)}
    return [_plain(item) for item in value] if isinstance(value, list) else value


def _comes_later(answer: Any) -> bool:
    """A coordinator is still loading or being looked for: every client asks again."""
    if isinstance(answer, dict):
        return answer.get("error_code") in LATER or any(map(_comes_later, answer.values()))
    return isinstance(answer, list) and any(map(_comes_later, answer))


def _at(value: Any, path: str) -> Any:
    for step in path.split("."):
        value = value[int(step)] if step.isdigit() else value[step]
    return value


def _batch(*, values: list[str], damage: str = "", timestamp_ms: int = 1_700_000_000_000, **fields: Any) -> memoryview:
    """A record batch with these values; `damage` breaks it in one way."""
    built = bytearray(build_batch([value.encode() for value in values], timestamp_ms=timestamp_ms, **fields))
    if damage == "crc":
        built[-1] ^= 1
    elif damage == "magic":
        built[16] = 1
    elif damage == "length":
        built[8:12] = (1 << 20).to_bytes(4, "big")
    elif damage == "count":
        built[57:61] = (7).to_bytes(4, "big")
    return memoryview(bytes(built))


def _build(cls: type[Message], body: Mapping[str, Any]) -> Message:
    """A message from plain data; nested ones by the types of its fields."""
    hints = typing.get_type_hints(cls)
    return cls(**{name: _converted(hints[name], value) for name, value in body.items()})


def _converted(hint: Any, value: Any) -> Any:
    if typing.get_origin(hint) in (UnionType, typing.Union):
        (hint,) = [argument for argument in typing.get_args(hint) if argument is not type(None)]
    if typing.get_origin(hint) is list and value is not None:
        return [_converted(typing.get_args(hint)[0], item) for item in value]
    if dataclasses.is_dataclass(hint) and isinstance(value, dict):
        return _build(typing.cast(Any, hint), value)
    if hint is bytes and isinstance(value, str):
        return value.encode()
    return value


def converse(address: str, name: str, run: str, *, settle_s: float = 0.0) -> list[Any]:
    """All answers to one question. `run` keeps the topics and groups of different runs apart.

    A Kafka broker learns of a new topic after the answer that made it; `settle_s` lets it.
    """
    names = {"topic": f"diff-{name}-{run}", "group": f"group-{name}-{run}", "other": f"other-{name}-{run}"}
    conversation = Conversation(address, names, settle_s=settle_s)
    try:
        return [conversation.ask(step) for step in QUESTIONS[name]]
    finally:
        conversation.close()


def differences(ours: Any, theirs: Any, path: str = "") -> dict[str, tuple[Any, Any]]:
    """What is not the same, by its path."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        parts = [(key, ours.get(key), theirs.get(key)) for key in {**theirs, **ours}]
    elif isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        parts = [(str(index), mine, other) for index, (mine, other) in enumerate(zip(ours, theirs, strict=True))]
    else:
        return {} if ours == theirs else {path: (ours, theirs)}
    found: dict[str, tuple[Any, Any]] = {}
    for key, mine, other in parts:
        found |= differences(mine, other, f"{path}.{key}" if path else key)
    return found


def recorded(name: str) -> list[Any]:
    """Kafka's answers as they were recorded."""
    answers: list[Any] = json.loads((GOLDEN / f"{name}.json").read_text())
    return answers


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--record", metavar="HOST:PORT", help="a fresh Apache Kafka, whose answers are written down")
    parser.add_argument("--ask", metavar="HOST:PORT", help="show where another broker answers otherwise")
    options = parser.parse_args()
    run = uuid.uuid4().hex[:6]
    for name in QUESTIONS:
        if options.record:
            GOLDEN.mkdir(parents=True, exist_ok=True)
            answers = converse(options.record, name, run, settle_s=0.5)
            (GOLDEN / f"{name}.json").write_text(json.dumps(answers, indent=1) + "\n")
            print(name, "recorded")
        elif options.ask:
            answers, expected = converse(options.ask, name, run), recorded(name)
            print(name, differences(json.loads(json.dumps(answers)), expected) or "same")


if __name__ == "__main__":
    main()
