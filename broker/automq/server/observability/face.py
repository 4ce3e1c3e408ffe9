"""Pure: the tables of docs/broker.md that come from the code: settings, states, reasons, exit codes."""

from collections.abc import Sequence

from automq.metadata.configs import TOPIC_CONFIGS
from automq.runtime.ledger import LEAST, MIB, SHARES, Account
from automq.server.config.settings import declared_settings, environment_name
from automq.server.lifecycle.states import EXIT_CODES, HEALING, MEANINGS, ExitCode, Reason

EXIT_MEANINGS = {
    ExitCode.STOPPED: "stopped as asked",
    ExitCode.BUG: "a bug; the log has the traceback",
    ExitCode.SETTINGS: "`InvalidSettings`, or a wrong command line",
    ExitCode.STORE: "the store's reasons",
    ExitCode.ADDRESS: "`AddressInUse`",
    ExitCode.FENCED: "`Fenced`",
    ExitCode.DAMAGED: "`StoreDamaged`",
}


def settings_table() -> str:
    """Every setting of our own declaration."""
    rows = [
        (
            f"`{declared.name}`",
            declared.kind.value,
            f"`{declared.default_text}`"
            if declared.default_text not in ("required", "none")
            else declared.default_text,
            declared.valid,
            declared.doc,
            f"`{declared.used_by}`",
        )
        for declared in declared_settings().values()
    ]
    return markdown(("setting", "type", "default", "valid", "what it does, and why this default", "used in"), rows)


def _shown(default: str) -> str:
    return default if default in ("required", "none") or " " in default else f"`{default}`"


def topic_defaults_table() -> str:
    """The broker-wide defaults of topic configs."""
    rows = [
        (", ".join(f"`{name}`" for name in definition.synonyms), f"`{topic_name}`", f"`{definition.default}`")
        for topic_name, definition in TOPIC_CONFIGS.items()
        if definition.synonyms
    ]
    return markdown(("setting", "is the default of the topic config", "its default"), rows)


def reasons_table() -> str:
    """The closed set of reasons."""
    rows = [
        (
            f"`{reason.value}`",
            "waits, is asked again with backoff" if reason in HEALING else f"ends with {int(EXIT_CODES[reason])}",
            MEANINGS[reason],
        )
        for reason in Reason
    ]
    return markdown(("reason", "a broker", "what it means, what to do"), rows)


def exit_codes_table() -> str:
    """How processes end."""
    return markdown(("exit code", "meaning"), [(str(int(code)), EXIT_MEANINGS[code]) for code in ExitCode])


def environment_examples() -> str:
    """Two settings and their variables."""
    names = ("node.id", "automq.storage.uri")
    assert all(name in declared_settings() for name in names)
    return markdown(("setting", "variable"), [(f"`{name}`", f"`{environment_name(name)}`") for name in names])


def markdown(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join(lines)


ACCOUNT_MEANINGS = {
    Account.ARENAS: "records, until they are uploaded and for as long as nobody needs the room: uploads begin early, "
    "then Produce requests wait",
    Account.RECEIVE: "requests that are still coming in or may not start yet: connections are not read",
    Account.BLOCK_CACHE: "blocks read back from objects, with their tables: the least recently used go",
    Account.UPLOADS: "objects that are built or put: the second of two waits",
    Account.COLD_READS: "ranged GETs on their way: the next ones wait",
    Account.READER_PINS: "answers that clients have not taken: those that are too slow are disconnected",
    Account.COMPACTION: "what compaction reads and writes at once: its objects are smaller, or it waits",
    Account.RECOVERY: "slots of a former process's write-ahead log: they are read in smaller groups",
    Account.LOG_CACHE_INDEX: "where in the arenas each partition's batches are: blocks go, uploads begin early, then "
    "Produce requests wait",
    Account.CHECKPOINTS: "state of partitions and groups that goes with an upload: Produce requests wait",
    Account.INDEX_CACHE: "indexes of objects: the least recently used go",
    Account.SNAPSHOTS: "a snapshot of the metadata, while it is written or read: what is beyond the limit takes the "
    "room of `block_cache`, whose blocks go",
    Account.CONNECTIONS: "open connections, 8 KiB each: new ones are closed",
}


def accounts_table() -> str:
    """Every account of the memory ledger."""
    rows = [
        (f"`{account.value}`", f"{share / 10:.1f} %", f"{LEAST[account] // MIB} MiB", ACCOUNT_MEANINGS[account])
        for account, share in sorted(SHARES.items(), key=lambda item: -item[1])
    ]
    return markdown(("account", "share", "at least", "what draws on it, and what happens when it is full"), rows)


SECTIONS_OF_DOCUMENT = {
    "accounts": accounts_table,
    "settings": settings_table,
    "topic-defaults": topic_defaults_table,
    "reasons": reasons_table,
    "exit-codes": exit_codes_table,
    "environment": environment_examples,
}
