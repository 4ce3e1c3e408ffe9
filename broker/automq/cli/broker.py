"""`automq broker`: a broker for whatever runs it; docs/broker.md is its whole face."""

import pathlib
import signal
from typing import Annotated

import typer

from automq.cli.options import SetOption


def broker(
    config: Annotated[pathlib.Path, typer.Option(help="Properties file.")],
    set_: SetOption = None,
) -> int:
    """Run a broker with the settings of a file, the environment and --set."""
    from automq.server.lifecycle.last_line import stop_early

    signal.signal(signal.SIGTERM, stop_early)
    signal.signal(signal.SIGINT, stop_early)
    from automq.server.config.settings import load_settings
    from automq.server.observability.logs import LogFormat, level_of, log_to_stderr
    from automq.server.runner import run_process

    log_to_stderr()
    settings = load_settings(file=config, flags=set_ or ())
    log_to_stderr(level_of(settings.server.log_level), LogFormat(settings.server.log_format))
    return run_process(settings)
