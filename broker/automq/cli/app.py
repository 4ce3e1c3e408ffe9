"""The commands, and how each process of this program ends.

Modules that cost time to import are imported inside the commands: `automq --help` and a broker's start are both felt.
"""

import sys
from typing import Any, Final

import typer

from automq import __version__
from automq.cli.broker import broker
from automq.cli.doctor import doctor
from automq.cli.dump import dump
from automq.cli.erase import erase
from automq.cli.fsck import fsck
from automq.cli.groups import groups
from automq.cli.repair import repair
from automq.cli.topics import topics
from automq.cli.up import up
from automq.server.last_line import abandon_unwritable_output
from automq.server.lifecycle import ExitCode, Reason, Refused

# Typer's usage errors, whichever copy of click it carries.
USAGE_ERROR: Final[Any] = typer.BadParameter.__bases__[0]

app = typer.Typer(
    name="automq",
    help="A stateless Kafka over object storage.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,  # "[/PREFIX]" is text, not markup
    pretty_exceptions_enable=False,
)
for command in (up, broker, doctor, fsck, repair, erase, dump, topics, groups):
    app.command()(command)


@app.callback(invoke_without_command=True)
def _options(version: bool = typer.Option(False, "--version", help="Show the version.")) -> None:
    """A stateless Kafka over object storage."""
    if version:
        typer.echo(__version__)
        raise typer.Exit


def run() -> None:
    """Run the command of this process's arguments and end with its exit code."""
    try:
        code = app(standalone_mode=False)
    except USAGE_ERROR as error:
        error.show()
        code = _end(Refused(Reason.INVALID_SETTINGS, error.format_message()))
    except Refused as refused:
        code = _end(refused)
    except (typer.Abort, KeyboardInterrupt):
        code = ExitCode.STOPPED
    except BrokenPipeError:
        # Whoever read our output has seen enough.
        sys.stderr.close()
        code = ExitCode.STOPPED
    abandon_unwritable_output(int(code or 0))
    sys.exit(int(code or 0))


def _end(refused: Refused) -> ExitCode:
    from automq.server.last_line import say_last_line

    path = getattr(refused, "termination_message_path", None)
    say_last_line(refused.reason, refused.message, path=path)
    return refused.exit_code
