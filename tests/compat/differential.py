"""Asks two brokers the same questions and compares the answers; Kafka's are recorded in tests/golden/differential.

`python -m tests.compat.differential [QUESTION ...]` starts Apache Kafka of the testbed and asks it anew. A question is
a conversation of one or several clients, written as plain data; answers are compared as plain data, field by field; of
what is of a run (ids, addresses) it is compared whether it is there. Every message is also written and read by kio.
"""

import argparse
import dataclasses
import json
import pathlib
import re
import socket
import tempfile
import time
import typing
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import UnionType
from typing import Any

from automq.protocol.apis import APIS, Api, ApiKey, encode_request
from automq.protocol.codec import decode, decode_whole
from automq.protocol.messages.header import ResponseHeader
from automq.protocol.schema import Message
from tests.compat.admin_questions import ADMIN_QUESTIONS
from tests.compat.config_questions import CONFIG_QUESTIONS
from tests.compat.group_questions import GROUP_QUESTIONS
from tests.compat.log_questions import LOG_QUESTIONS
from tests.compat.questions import QUESTIONS as FIRST_QUESTIONS
from tests.compat.questions import Answer, Ask, Pause, Restart, Step, Until
from tests.compat.restart_questions import RESTART_QUESTIONS
from tests.compat.retention_questions import RETENTION_QUESTIONS
from tests.support.batches import build_batch
from tests.support.kio_oracle import kio_bytes, kio_read, to_kio
from tests.support.process import Kafka

QUESTIONS: Mapping[str, Sequence[Step]] = {
    **FIRST_QUESTIONS,
    **LOG_QUESTIONS,
    **GROUP_QUESTIONS,
    **CONFIG_QUESTIONS,
    **ADMIN_QUESTIONS,
    **RESTART_QUESTIONS,
    **RETENTION_QUESTIONS,
}
SETTINGS: Mapping[str, object] = {
    "group.min.session.timeout.ms": 500,
    "min.insync.replicas": 1,
    "num.partitions": 4,
}
"""Both brokers have them."""
RETENTION: Mapping[str, object] = {"log.retention.check.interval.ms": 500}
"""And those that are asked about retention these, which would take away what the other questions are about."""
KAFKAS_RETENTION: Mapping[str, object] = {"log.initial.task.delay.ms": 500}
OUR_RETENTION: Mapping[str, object] = {"automq__upload__interval__ms": 500}
SETTLE_S = 0.3
GOLDEN = pathlib.Path(__file__).parents[1] / "golden/differential"
TIMEOUT_S = 20
RANDOM_PART = re.compile("[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
TRIES_MAX = 50
CHANGES = ("ALTER_CONFIGS", "CREATE_PARTITIONS", "CREATE_TOPICS", "DELETE_TOPICS", "INCREMENTAL_ALTER_CONFIGS")
"""Kafka answers them before the broker knows."""
LATER = (6, 14, 15, 16)
"""NOT_LEADER_OR_FOLLOWER, COORDINATOR_LOAD_IN_PROGRESS, COORDINATOR_NOT_AVAILABLE, NOT_COORDINATOR."""

# Whose values are of a run, or of a broker: that there is one is compared.
OF_A_RUN = frozenset({"cluster_id", "finalized_features_epoch", "host", "port", "producer_id", "session_id"})


Restarting = Callable[[bool], None]
"""Ends the broker, with SIGKILL if so, and starts it again where it was."""


class Line:
    """One client's connection."""

    def __init__(self, address: str, client_id: str) -> None:
        self._client_id = client_id
        self._sent = 0
        self.parked: list[Ask] = []
        """Asked, and not answered yet; oldest first."""
        host, port = address.rsplit(":", 1)
        self._socket = socket.create_connection((host, int(port)), timeout=TIMEOUT_S)

    def close(self) -> None:
        self._socket.close()

    def send(self, api: Api, version: int, request: Message) -> None:
        self._sent += 1
        frame = encode_request(api, version, self._sent, self._client_id, request)
        assert bytes(frame).endswith(kio_bytes(request, version)), (request, "is written otherwise by kio")
        self._socket.sendall(frame)

    def receive(self) -> bytes:
        """The next answer. Raises EOFError or ConnectionError."""
        return self._exactly(int.from_bytes(self._exactly(4), "big"))

    def _exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            chunk = self._socket.recv(size - len(data))
            if not chunk:
                raise EOFError
            data += chunk
        return data


class Conversation:
    """Its clients, and the values that earlier answers gave later requests."""

    def __init__(
        self, address: str, names: Mapping[str, Any], *, settle_s: float, restart: Restarting | None = None
    ) -> None:
        self._settle_s = settle_s
        self._address = address
        self._names: dict[str, Any] = dict(names)
        self._lines: dict[str, Line] = {}
        self._restart = restart

    def _line(self, client: str) -> Line:
        if client not in self._lines:
            self._lines[client] = Line(self._address, f"differential{client}")
        return self._lines[client]

    def close(self) -> None:
        for line in self._lines.values():
            line.close()
        self._lines.clear()

    def take(self, step: Step) -> Any:
        """What a step of the conversation brings, without noise."""
        match step:
            case Ask(is_parked=True):
                self._send(step)
                self._line(step.client).parked.append(step)
                return "parked"
            case Ask():
                return self.ask(step)
            case Answer(client=client):
                return self._without_noise(self._received(self._line(client).parked.pop(0)))
            case Until(ask=question, path=path, value=value):
                answer = self.ask(question)
                deadline = time.monotonic() + TIMEOUT_S
                while _at(answer, path) != value and time.monotonic() < deadline:
                    time.sleep(0.05)
                    answer = self.ask(question)
                if _at(answer, path) != value:
                    raise TimeoutError(f"{path} does not become {value}: {answer}")
                return answer
            case Pause(seconds=seconds):
                time.sleep(seconds)
                return "paused"
            case Restart(is_killed=is_killed):
                assert self._restart is not None, "this question wants a broker of its own"
                self.close()
                self._restart(is_killed)
                return "restarted"

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
        self._send(question)
        return self._received(question)

    def _send(self, question: Ask) -> None:
        api = APIS[ApiKey[question.api].value]
        request = _build(api.request_class, self._filled(question.body))
        self._line(question.client).send(api, question.version, request)

    def _received(self, question: Ask) -> Any:
        api, version = APIS[ApiKey[question.api].value], question.version
        try:
            body = self._line(question.client).receive()
        except (ConnectionError, EOFError):
            self._lines.pop(question.client).close()
            return "closed"
        _, offset = decode(ResponseHeader, api.response_header_version(version), body)
        answer = decode_whole(api.response_class, version, body, offset)
        _check_with_kio(answer, version, body[offset:])
        if question.api in CHANGES:
            time.sleep(self._settle_s)
        plain = _plain(answer)
        for name, path in question.remember.items():
            self._names[name] = _at(plain, path)
        return plain

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
                key: f"<{key}>" if key in OF_A_RUN and _is_there(key, item) else self._without_noise(item)
                for key, item in value.items()
            }
        if isinstance(value, list):
            clean = [self._without_noise(item) for item in value]
            if clean and all(isinstance(item, dict) and "api_key" in item for item in clean):
                return {ApiKey(item["api_key"]).name: item for item in clean}
            # Kafka answers about groups, members and configurations in an order of its own.
            for name in ("group_id", "member_id", "resource_name", "config_type"):
                if all(isinstance(item, dict) and name in item for item in clean):
                    return sorted(clean, key=_place)
            return clean
        if isinstance(value, int) and value > 1 and value == self._names.get("now"):
            return "<now>"
        if isinstance(value, uuid.UUID):
            return "<none>" if value.int == 0 else "<id>"
        if isinstance(value, (bytes, memoryview)):
            return bytes(value).hex()
        if isinstance(value, str):
            for name, known in self._names.items():
                if isinstance(known, str) and known:
                    value = value.replace(known, f"<{name}>")
            return RANDOM_PART.sub("<random>", value)
        return value


def _is_there(key: str, value: Any) -> bool:
    """Producer ids begin with 0; no session is 0."""
    return value not in ((None, -1) if key == "producer_id" else (None, "", 0, -1))


def _place(item: Mapping[str, Any]) -> str:
    return " ".join(
        str(item[name]) for name in ("group_id", "member_id", "resource_type", "resource_name", "name") if name in item
    )


def _check_with_kio(message: Message, version: int, data: bytes) -> None:
    """A codec that is not ours reads the same from the bytes."""
    theirs = kio_read(type(message), version, data)
    assert theirs == to_kio(message, type(theirs)), (message, theirs)


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


def converse(
    address: str, name: str, run: str, *, settle_s: float = 0.0, restart: Restarting | None = None
) -> list[Any]:
    """All answers to one question. `run` keeps the topics and groups of different runs apart.

    A Kafka broker learns of a new topic after the answer that made it; `settle_s` lets it.
    """
    names: dict[str, Any] = {kind: f"{kind}-{name}-{run}" for kind in ("topic", "group", "other")}
    names["now"] = time.time_ns() // 1_000_000
    conversation = Conversation(address, names, settle_s=settle_s, restart=restart)
    answers = []
    try:
        for number, step in enumerate(QUESTIONS[name]):
            try:
                answers.append(conversation.take(step))
            except TimeoutError as error:
                raise TimeoutError(f"step {number} of {name}: {step}: {error}") from error
    finally:
        conversation.close()
    return answers


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


def ask_kafka(names: Sequence[str]) -> Iterator[tuple[str, list[Any]]]:
    """What Apache Kafka of the testbed answers, set up for these questions."""
    about_retention = [name for name in names if name in RETENTION_QUESTIONS]
    others = [name for name in names if name not in RETENTION_QUESTIONS]
    for some, settings in ((others, SETTINGS), (about_retention, {**SETTINGS, **RETENTION, **KAFKAS_RETENTION})):
        if some:
            yield from _ask_kafka(some, settings)


def _ask_kafka(names: Sequence[str], settings: Mapping[str, object]) -> Iterator[tuple[str, list[Any]]]:
    with tempfile.TemporaryDirectory() as folder:
        kafka = Kafka(pathlib.Path(folder), **settings)
        kafka.start()
        try:
            kafka.tool("kafka-features", "downgrade", "--feature", "eligible.leader.replicas.version=0")
            setting = ("--entity-type", "brokers", "--entity-default", "--delete-config", "min.insync.replicas")
            kafka.tool("kafka-configs", "--alter", *setting)
            run = uuid.uuid4().hex[:6]
            for name in names:
                yield name, converse(kafka.address, name, run, settle_s=SETTLE_S, restart=kafka.restart)
        finally:
            kafka.stop()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="only these questions")
    names = parser.parse_args().names or list(QUESTIONS)
    GOLDEN.mkdir(parents=True, exist_ok=True)
    for name, answers in ask_kafka(names):
        (GOLDEN / f"{name}.json").write_text(json.dumps(answers, indent=1) + "\n")
        print(name, "recorded")


if __name__ == "__main__":
    main()
