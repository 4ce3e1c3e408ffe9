"""The command line `automq`: one module a command, no logic of its own."""


def main() -> None:
    """The console script."""
    from automq.cli.app import run

    run()
