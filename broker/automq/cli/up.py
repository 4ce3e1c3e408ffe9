"""`automq up`: a broker for a laptop, its data in a folder."""

import pathlib
import signal
import sys
from typing import Annotated

import typer

from automq.cli.options import SetOption


def up(
    data_dir: Annotated[pathlib.Path, typer.Option(help="Folder for the data.")] = pathlib.Path("automq-data"),
    port: Annotated[int, typer.Option(help="Port for Kafka clients; 0 takes a free one.")] = 9092,
    bind: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    advertised: Annotated[str | None, typer.Option(help="Host that clients are told; default: --bind.")] = None,
    store: Annotated[str | None, typer.Option(metavar="URI", help="Another store than a folder in --data-dir.")] = None,
    wal: Annotated[str, typer.Option(help="Kind of write-ahead log.")] = "s3",
    set_: SetOption = None,
) -> int:
    """Run a broker on this machine; Ctrl-C ends it cleanly."""
    from automq.server.last_line import stop_early

    signal.signal(signal.SIGTERM, stop_early)
    signal.signal(signal.SIGINT, stop_early)
    import contextlib
    import logging

    from automq.cli.live import LiveStatus
    from automq.server.local import LocalOptions, local_settings, locked_folder
    from automq.server.logs import log_to_stderr
    from automq.server.runner import run_process

    log_to_stderr(logging.WARNING)
    # The same changes are shown as the broker's own lines.
    logging.getLogger("automq.server.journal").setLevel(logging.CRITICAL)
    options = LocalOptions(
        data_folder=data_dir, port=port, bind=bind, advertised=advertised, store=store, wal=wal, flags=set_ or ()
    )
    settings = local_settings(options)
    with contextlib.nullcontext() if store else locked_folder(data_dir), LiveStatus() as status:
        return run_process(settings, observe=status.watch, people=sys.stderr.isatty())
