"""The broker's settings: one frozen tree, read once from flags, environment and a properties file.

Precedence: flag > environment > file > default. An unknown key in a file or a flag is an error; in the environment it
is a warning only, because Kubernetes puts variables such as KAFKA_PORT_9092_TCP there for a Service of that name.
This is the only module that reads the environment and the cgroup's limits.
"""

import dataclasses
import difflib
import os
import pathlib
import re
import socket
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from automq.metadata.configs import TOPIC_CONFIGS, ConfigDefinition
from automq.metadata.records import INTERNAL_LISTENER
from automq.runtime.ledger import Account
from automq.server.config.balancer_section import BalancerSection
from automq.server.config.compaction_section import CompactionSection
from automq.server.config.group_section import GroupServerSettings
from automq.server.config.membership_section import MembershipSection
from automq.server.config.memory import MemoryRefused, plan_memory, upload_bytes
from automq.server.config.message_limit import message_limit
from automq.server.config.properties import PropertiesError, parse_properties
from automq.server.config.sections import (
    REMEDIES,
    ClusterSettings,
    EngineSettings,
    NodeSettings,
    ServerSettings,
    TopicSettings,
)
from automq.server.config.setting import Address, Listener, Machine, Setting, ValueRefused
from automq.server.lifecycle.states import Reason, Refused

EVERY: Final = ("", "0.0.0.0", "::")
"""Hosts that mean every interface, and tell nobody where to connect."""
UNSERVED_PROTOCOLS: Final = ("SSL", "SASL_PLAINTEXT", "SASL_SSL")
"""Kafka's other protocols: a listener of that name is meant to speak it."""
VARIABLE: Final = re.compile(r"\$\{env:([A-Za-z_][A-Za-z0-9_]*)\}")
ENVIRONMENT_PREFIXES: Final = ("KAFKA_", "AUTOMQ_")
SECTIONS: Final[Mapping[str, type[Any]]] = {
    "node": NodeSettings,
    "cluster": ClusterSettings,
    "engine": EngineSettings,
    "compaction": CompactionSection,
    "balancer": BalancerSection,
    "membership": MembershipSection,
    "topics": TopicSettings,
    "groups": GroupServerSettings,
    "server": ServerSettings,
}


class InvalidSettings(Refused):
    """A setting is unknown, malformed, missing or contradicts another. Names the key and the remedy."""

    def __init__(self, key: str, message: str) -> None:
        super().__init__(Reason.INVALID_SETTINGS, message)
        self.key = key
        self.termination_message_path: str | None = None
        """Where the last line is wanted, as far as that could be read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All settings of a broker, read once and never changed: what follows from several of them is a property."""

    node: NodeSettings
    cluster: ClusterSettings
    engine: EngineSettings
    compaction: CompactionSection
    balancer: BalancerSection
    membership: MembershipSection
    topics: TopicSettings
    groups: GroupServerSettings
    server: ServerSettings
    machine: Machine
    memory: Mapping[Account, int]
    """The limit of every account, in bytes."""
    topic_defaults: Mapping[str, str]
    """What was set of the broker-wide defaults of topic configs, under the broker's names (`log.retention.ms`)."""
    texts: Mapping[str, str]
    """What was set, as it was written: DescribeConfigs shows it."""
    warnings: tuple[str, ...] = ()

    @property
    def upload_bytes(self) -> int:
        """Records gathered before they are uploaded as one object."""
        return upload_bytes(self.engine, self.memory)

    def advertised(self) -> tuple[Listener, ...]:
        """What clients are told: `advertised.listeners`, else `listeners`; an empty host becomes the machine's name."""
        named = {listener.name: listener for listener in self.node.advertised}
        return tuple(
            named.get(listener.name) or _with_host(listener, self.machine.hostname) for listener in self.node.listeners
        )

    def internal_listener(self) -> Address:
        """Where to listen for other brokers."""
        return self.node.internal or Address(host=self.node.listeners[0].address.host, port=0)

    def internal_advertised(self) -> Address:
        """What they are told; port 0 stands for the one that is listened on."""
        address = self.node.internal_advertised or self.internal_listener()
        return (
            Address(host=address.host, port=address.port)
            if address.host not in EVERY
            else Address(host=self.machine.hostname, port=address.port)
        )

    def changed(self) -> dict[str, str]:
        """What was set and is not the default, as it was written; nothing of it is a secret."""
        found = {}
        for name, section in SECTIONS.items():
            for field in dataclasses.fields(section):
                declared: Setting = field.metadata["setting"]
                text = self.texts.get(declared.name)
                is_default = declared.default is not None and (
                    getattr(getattr(self, name), field.name) == declared.default(self.machine)
                )
                if text is not None and not is_default:
                    found[declared.name] = text
        return found | dict(self.topic_defaults)


def _with_host(listener: Listener, hostname: str) -> Listener:
    if listener.address.host not in EVERY:
        return listener
    return Listener(name=listener.name, address=Address(host=hostname, port=listener.address.port))


def declared_settings() -> dict[str, Setting]:
    """Every declaration, by name, in the order of the sections."""
    return {
        field.metadata["setting"].name: field.metadata["setting"]
        for section in SECTIONS.values()
        for field in dataclasses.fields(section)
    }


def topic_default_settings() -> dict[str, ConfigDefinition]:
    """The broker-wide defaults of topic configs: the broker's name to the topic config that it is the default of."""
    return {synonym: definition for definition in TOPIC_CONFIGS.values() for synonym in definition.synonyms}


def load_settings(
    *,
    file: pathlib.Path | None = None,
    flags: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
    machine: Machine | None = None,
) -> Settings:
    """Read all sources; `environment` and `machine` are this process's own unless given. Raises InvalidSettings."""
    surroundings = os.environ if environment is None else environment
    from_file = with_variables(read_file(file), surroundings) if file is not None else {}
    from_flags = read_flags(flags)
    from_environment, warnings = read_environment(surroundings)
    texts = {**from_file, **from_environment, **from_flags}
    try:
        for key in (*from_flags, *from_file):
            _check_known(key)
        return build_settings(texts, machine=this_machine() if machine is None else machine, warnings=warnings)
    except InvalidSettings as refused:
        refused.termination_message_path = texts.get("automq.termination.message.path")
        raise


def build_settings(texts: Mapping[str, str], *, machine: Machine, warnings: Iterable[str] = ()) -> Settings:
    """The tree from what was set. Raises InvalidSettings."""
    sections = {name: _build_section(section, texts, machine) for name, section in SECTIONS.items()}
    defaults = topic_default_settings()
    topic_defaults = {key: text for key, text in texts.items() if key in defaults}
    for key, text in topic_defaults.items():
        _check_topic_default(key, defaults[key], text)
    try:
        memory = plan_memory(sections["engine"], sections["server"], machine)
    except MemoryRefused as refused:
        raise InvalidSettings(refused.key, str(refused)) from refused
    built = Settings(
        **sections,
        machine=machine,
        memory=memory,
        topic_defaults=topic_defaults,
        texts=dict(texts),
        warnings=tuple(warnings),
    )
    check_contradictions(built)
    return built


def read_file(path: pathlib.Path) -> dict[str, str]:
    """Keys and texts of a properties file. Raises InvalidSettings."""
    try:
        return parse_properties(path.read_bytes())
    except OSError as error:
        raise InvalidSettings("--config", f"{path} cannot be read: {error.strerror}; name a readable file") from error
    except PropertiesError as error:
        raise InvalidSettings(error.key or "--config", f"{path}: {error}; correct the file") from error


def with_variables(texts: Mapping[str, str], environment: Mapping[str, str]) -> dict[str, str]:
    """The texts of a file with the values of variables for `${env:NAME}`. Raises InvalidSettings for one not set."""
    return {key: _with_variables(key, text, environment) for key, text in texts.items()}


def _with_variables(key: str, text: str, environment: Mapping[str, str]) -> str:
    for name in VARIABLE.findall(text):
        if name not in environment:
            raise InvalidSettings(key, f"{key} names the environment variable {name}, which is not set: set it")
    return VARIABLE.sub(lambda found: environment[found[1]], text)


def read_flags(flags: Sequence[str]) -> dict[str, str]:
    """Keys and texts of KEY=VALUE flags; the same key twice is an error, as in a file."""
    texts: dict[str, str] = {}
    for flag in flags:
        key, equals, text = flag.partition("=")
        key = key.strip()
        if not equals or not key:
            raise InvalidSettings("--set", f"--set {flag} has no value; write --set KEY=VALUE")
        if key in texts:
            raise InvalidSettings(key, f"--set {key} is given twice; keep one")
        texts[key] = text
    return texts


def read_environment(environment: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
    """Known settings among the variables, and a warning for each other variable that looks like one."""
    names = {environment_name(key): key for key in (*declared_settings(), *topic_default_settings())}
    texts: dict[str, str] = {}
    warnings: list[str] = []
    for variable in sorted(environment):
        if variable in names:
            texts[names[variable]] = environment[variable]
        elif variable.startswith(ENVIRONMENT_PREFIXES):
            warnings.append(f"environment variable {variable} names no setting and is ignored")
    return texts, warnings


def environment_name(key: str) -> str:
    """`node.id` is KAFKA_NODE_ID, `automq.storage.uri` is AUTOMQ_STORAGE_URI."""
    name = key.replace(".", "_").upper()
    return name if key.startswith("automq.") else f"KAFKA_{name}"


def this_machine() -> Machine:
    """The defaults' surroundings: the host's name and how much memory there is for this process."""
    return Machine(
        hostname=socket.gethostname(), memory_limit_bytes=_lowest(memory_limit(pathlib.Path("/")), _physical_memory())
    )


def _lowest(*limits: int | None) -> int | None:
    return min((limit for limit in limits if limit is not None), default=None)


def _physical_memory() -> int | None:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError):
        return None


def memory_limit(root: pathlib.Path) -> int | None:
    """The lowest memory limit of this process's cgroups, version 2 or 1; None without one."""
    limits: list[int] = []
    for path in _limit_files(root):
        try:
            text = path.read_text().strip()
        except OSError:
            continue
        # Version 1 says "no limit" with the largest multiple of the page size.
        if text.isdigit() and 0 < int(text) < 2**60:
            limits.append(int(text))
    return min(limits, default=None)


def _limit_files(root: pathlib.Path) -> list[pathlib.Path]:
    """Where the limits of this process's cgroups stand: its own and all above."""
    mount = root / "sys/fs/cgroup"
    files = [mount / "memory.max", mount / "memory/memory.limit_in_bytes"]
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return files
    for line in lines:
        controllers, _, path = line.partition(":")[2].partition(":")
        if controllers not in ("", "memory"):
            continue
        base, name = (mount, "memory.max") if not controllers else (mount / "memory", "memory.limit_in_bytes")
        for depth in range(1, len(parts := path.strip("/").split("/")) + 1):
            files.append(base.joinpath(*parts[:depth]) / name)
    return files


def _check_known(key: str) -> None:
    if key in declared_settings() or key in topic_default_settings():
        return
    if key in REMEDIES:
        raise InvalidSettings(key, f"{key} means nothing here: {REMEDIES[key]}")
    known = [*declared_settings(), *topic_default_settings()]
    close = difflib.get_close_matches(key, known, n=1, cutoff=0.75)
    remedy = f"did you mean {close[0]}?" if close else "remove it; docs/broker.md lists all settings"
    raise InvalidSettings(key, f"{key} is not a setting: {remedy}")


def _build_section(section: type[Any], texts: Mapping[str, str], machine: Machine) -> Any:
    values: dict[str, Any] = {}
    for field in dataclasses.fields(section):
        declared: Setting = field.metadata["setting"]
        values[field.name] = _value(declared, texts.get(declared.name), machine)
    return section(**values)


def _value(declared: Setting, text: str | None, machine: Machine) -> Any:
    if text is None or (declared.default is None and not text.strip()):
        if declared.default is None:
            variable = environment_name(declared.name)
            raise InvalidSettings(
                declared.name, f"{declared.name} is required: set it in the file, with --set, or as {variable}"
            )
        return declared.default(machine)
    try:
        return declared.parse(text)
    except ValueRefused as refusal:
        raise InvalidSettings(declared.name, f"{declared.name}={text} is refused: {refusal}") from refusal


def _check_topic_default(key: str, definition: ConfigDefinition, text: str) -> None:
    problem = definition.problem(text)
    if problem is not None:
        raise InvalidSettings(key, f"{key}={text} is refused: {problem}")


def check_contradictions(settings: Settings) -> None:
    """Settings that are fine alone and impossible together."""
    node, groups, cluster = settings.node, settings.groups, settings.cluster
    names = [listener.name for listener in node.listeners]
    if not names:
        raise InvalidSettings("listeners", "listeners is empty: name one, as in PLAINTEXT://:9092")
    _check_listeners(settings, names)
    arena_bytes = settings.memory[Account.ARENAS]
    if settings.upload_bytes > arena_bytes // 2:
        raise InvalidSettings(
            "automq.upload.bytes",
            f"automq.upload.bytes={settings.upload_bytes} is more than half of automq.arena.bytes={arena_bytes}: "
            "records must be able to arrive while an upload runs; lower the first or raise the second",
        )
    largest = int(settings.topic_defaults.get("message.max.bytes", "0"))
    limit = message_limit(settings.memory, settings.server.request_bytes_max)
    if largest > limit.bytes_max:
        raise InvalidSettings(
            "message.max.bytes",
            f"message.max.bytes={largest} is more than the largest batch, {limit.bytes_max} bytes: {limit.reason}; "
            "lower the first or raise what bounds it",
        )
    if groups.session_timeout_ms_min > groups.session_timeout_ms_max:
        raise InvalidSettings(
            "group.min.session.timeout.ms",
            f"group.min.session.timeout.ms={groups.session_timeout_ms_min} is above "
            f"group.max.session.timeout.ms={groups.session_timeout_ms_max}: lower the first or raise the second",
        )
    contradiction = settings.membership.contradiction
    if contradiction is not None:
        raise InvalidSettings("automq.broker.heartbeat.interval.ms", contradiction)
    if cluster.adopt is not None and cluster.cluster_id is not None and cluster.adopt != cluster.cluster_id:
        raise InvalidSettings(
            "automq.storage.adopt",
            f"automq.storage.adopt={cluster.adopt} contradicts automq.cluster.id={cluster.cluster_id}: "
            "both name the cluster to run; make them equal or remove one",
        )


def _check_listeners(settings: Settings, names: Sequence[str]) -> None:
    node = settings.node
    ports = [str(listener.address) for listener in node.listeners if listener.address.port]
    if node.internal is not None and str(node.internal) in ports:
        raise InvalidSettings(
            "automq.internal.listener",
            f"automq.internal.listener={node.internal} is a listener of clients: give it a port of its own",
        )
    for where in ports:
        if ports.count(where) > 1:
            raise InvalidSettings("listeners", f"listeners uses {where} twice: give each listener a port of its own")
    if INTERNAL_LISTENER in names:
        raise InvalidSettings(
            "listeners",
            f"listeners names {INTERNAL_LISTENER}, the name of the brokers' own listener: choose another name, and set "
            "automq.internal.listener for that one",
        )
    for name in names:
        if name not in node.protocols and name in UNSERVED_PROTOCOLS:
            raise InvalidSettings(
                "listeners",
                f"listeners names {name}: TLS and SASL are not served yet. Use PLAINTEXT where the network is trusted, "
                "or let a proxy in front of the broker speak TLS",
            )
        if name not in node.protocols and name != "PLAINTEXT":
            raise InvalidSettings(
                "listeners",
                f"listeners names {name}, whose protocol is unknown: add {name}:PLAINTEXT to "
                "listener.security.protocol.map",
            )
    for listener in node.advertised:
        if listener.name not in names:
            raise InvalidSettings(
                "advertised.listeners",
                f"advertised.listeners names {listener.name}, which listeners does not have: add it there or remove it",
            )
        if listener.address.host in EVERY:
            raise InvalidSettings(
                "advertised.listeners",
                f"advertised.listeners has no host for {listener.name}: clients need a name or an address",
            )
