"""A command that shows something when it is called alone or with names, and has subcommands that change things."""

from typing import Any, Final

from typer.core import TyperGroup

VIEW: Final = "show"
"""The subcommand that is meant when none is named."""
OPTIONS_WITH_VALUES: Final = frozenset({"-b", "--bootstrap"})
"""Options that may stand before the subcommand's name, with a value of their own."""


class ViewGroup(TyperGroup):
    """`topics`, `topics NAME` and `topics show NAME` are one; `topics create NAME` is another."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """The subcommand's name first, whatever options stood before it."""
        if args[:1] != ["--help"]:
            index = self._index_of_command(args)
            args = [VIEW, *args] if index is None else [args[index], *args[:index], *args[index + 1 :]]
        return super().parse_args(ctx, args)

    def _index_of_command(self, args: list[str]) -> int | None:
        """Where a subcommand is named; None where the first word that is no option is something else."""
        is_value = False
        for index, word in enumerate(args):
            if is_value:
                is_value = False
            elif word in OPTIONS_WITH_VALUES:
                is_value = True
            elif not word.startswith("-"):
                return index if word in self.commands else None
        return None
