"""`topics`, `topics NAME` and `topics create NAME` on one command line."""

from typing import Annotated

import pytest
import typer

from automq.cli.view_group import VIEW, ViewGroup

app = typer.Typer(cls=ViewGroup)
called: list[tuple[str, object, str]] = []


@app.command(VIEW)
def show(
    names: Annotated[list[str] | None, typer.Argument()] = None, bootstrap: str = "here", json: bool = False
) -> None:
    called.append((VIEW, names or [], bootstrap))


@app.command()
def create(name: str, bootstrap: str = "here") -> None:
    called.append(("create", name, bootstrap))


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], (VIEW, [], "here")),
        (["orders", "more"], (VIEW, ["orders", "more"], "here")),
        (["--json"], (VIEW, [], "here")),
        (["--bootstrap", "there"], (VIEW, [], "there")),
        # An option's value is no subcommand, whatever it says.
        (["--bootstrap", "create"], (VIEW, [], "create")),
        (["--bootstrap", "there", "create", "orders"], ("create", "orders", "there")),
        (["create", "orders", "--bootstrap", "there"], ("create", "orders", "there")),
        (["show", "create"], (VIEW, ["create"], "here")),
        (["orders", "create"], (VIEW, ["orders", "create"], "here")),
    ],
)
def test_subcommand_is_found_and_else_the_view_is_meant(
    arguments: list[str], expected: tuple[str, object, str]
) -> None:
    called.clear()
    app(arguments, standalone_mode=False)

    assert called == [expected]
