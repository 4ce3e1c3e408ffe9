"""The commands, and how each process of this program ends.

Modules that cost time to import are imported inside the commands: `automq --help` and a broker's start are both felt.
"""

import sys
from typing import Any, Final

import typer

from automq import __version__, core
from automq.cli import groups, topics
from automq.cli.balance import balance
from automq.cli.broker import broker
from automq.cli.brokers import brokers
from automq.cli.cluster import cluster
from automq.cli.consume import consume
from automq.cli.doctor import doctor
from automq.cli.dump import dump
from automq.cli.erase import erase
from automq.cli.failures import FAILED, CommandFailed, is_for_people, show_failure
from automq.cli.fsck import fsck
from automq.cli.produce import produce
from automq.cli.repair import repair
from automq.cli.up import up
from automq.server.lifecycle.last_line import abandon_unwritable_output, end_refused
from automq.server.lifecycle.states import ExitCode, Reason, Refused

# Typer's usage errors, whichever copy of click it carries.
USAGE_ERROR: Final[Any] = typer.BadParameter.__bases__[0]

app = typer.Typer(
    name="automq",
    help="A stateless Kafka over object storage.",
    add_completion=False,
    rich_markup_mode=None,  # "[/PREFIX]" is text, not markup
    pretty_exceptions_enable=False,
)
# The short texts are those of `automq --help`, which cuts what is longer.
app.command(short_help="Run a broker on this machine.")(up)
app.command(short_help="Run a broker for a supervisor.")(broker)
app.add_typer(topics.app, name="topics", short_help="Show, create, delete, configure topics.")
app.add_typer(groups.app, name="groups", short_help="Show groups, reset their offsets.")
app.command(short_help="Show brokers and what they lead.")(brokers)
app.command(short_help="Show controller, metadata, moves.")(cluster)
app.command(short_help="Show what is evened out, and why.")(balance)
app.command(short_help="Write lines of input as records.")(produce)
app.command(short_help="Read records.")(consume)
app.command(short_help="Examine whether a store can be trusted.")(doctor)
app.command(short_help="Say what of a cluster is damaged.")(fsck)
app.command(short_help="Give up what is named as lost.")(repair)
app.command(short_help="Show what is in an object or store.")(dump)
app.command(short_help="Remove a cluster from a store.")(erase)


@app.callback(invoke_without_command=True)
def _options(
    context: typer.Context, version: bool = typer.Option(False, "--version", help="Show the version.")
) -> None:
    """A stateless Kafka over object storage."""
    if version:
        typer.echo(f"{__version__} ({core.description})")
        raise typer.Exit
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


def run() -> None:
    """Run the command of this process's arguments and end with its exit code."""
    people = is_for_people(sys.argv[1:])
    try:
        code = app(standalone_mode=False)
    except USAGE_ERROR as error:
        if people:
            error.show()
        else:
            show_failure(Reason.INVALID_SETTINGS.value, error.format_message(), people=False)
        code = ExitCode.SETTINGS
    except Refused as refused:
        path = getattr(refused, "termination_message_path", None)
        code = end_refused(refused, path=path, people=people)
    except CommandFailed as failed:
        show_failure(FAILED, str(failed), people=people)
        code = failed.code
    except (typer.Abort, KeyboardInterrupt):
        code = ExitCode.STOPPED
    except BrokenPipeError:
        # Whoever read our output has seen enough.
        sys.stderr.close()
        code = ExitCode.STOPPED
    abandon_unwritable_output(int(code or 0))
    sys.exit(int(code or 0))
