"""`automq up`: a broker for a laptop, its data in a folder."""

import pathlib
import signal
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from automq.cli.options import SetOption

if TYPE_CHECKING:
    from automq.server.local import LocalOptions


def up(
    data_dir: Annotated[pathlib.Path, typer.Option(help="Folder for the data.")] = pathlib.Path("automq-data"),
    port: Annotated[int, typer.Option(help="Port for Kafka clients; 0 takes a free one.")] = 9092,
    bind: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    advertised: Annotated[str | None, typer.Option(help="Host that clients are told; default: --bind.")] = None,
    store: Annotated[str | None, typer.Option(metavar="URI", help="Another store than a folder in --data-dir.")] = None,
    wal: Annotated[str, typer.Option(help="Kind of write-ahead log.")] = "s3",
    brokers: Annotated[
        int, typer.Option(min=1, max=20, help="How many: a process each, on ports that follow one another.")
    ] = 1,
    set_: SetOption = None,
) -> int:
    """Run a broker on this machine, or a cluster of several; Ctrl-C ends it cleanly."""
    from automq.server.lifecycle.last_line import stop_early

    signal.signal(signal.SIGTERM, stop_early)
    signal.signal(signal.SIGINT, stop_early)
    import contextlib
    import logging

    from automq.cli.live import LiveStatus
    from automq.server.local import LocalOptions, local_settings, locked_folder
    from automq.server.observability.logs import log_to_stderr
    from automq.server.runner import run_process

    log_to_stderr(logging.WARNING)
    # The same changes are shown as the broker's own lines.
    logging.getLogger("automq.server.observability.journal").setLevel(logging.CRITICAL)
    options = LocalOptions(
        data_folder=data_dir, port=port, bind=bind, advertised=advertised, store=store, wal=wal, flags=set_ or ()
    )
    if brokers > 1:
        return _up_cluster(options, brokers)
    settings = local_settings(options)
    with contextlib.nullcontext() if store else locked_folder(data_dir), LiveStatus() as status:
        return run_process(settings, observe=status.watch, people=sys.stderr.isatty())


def _up_cluster(options: "LocalOptions", brokers: int) -> int:
    """A process for each broker; this one waits for them."""
    import asyncio

    from automq.server.local import locked_folder
    from automq.server.local_cluster import broker_arguments, run_local_cluster

    with locked_folder(options.data_folder):
        return asyncio.run(
            run_local_cluster(broker_arguments(options, brokers), folder=options.data_folder, write=typer.echo)
        )
