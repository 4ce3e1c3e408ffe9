"""Options that several commands share."""

import pathlib
from typing import Annotated

import typer

SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="A setting, above file and environment; repeatable."),
]
BootstrapOption = Annotated[
    str, typer.Option("--bootstrap", "-b", metavar="HOST:PORT", help="A broker, ours or any Kafka's.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="JSON instead of a table.")]
CredentialsOption = Annotated[
    pathlib.Path | None,
    typer.Option(
        "--credentials-dir",
        help="Folder with access-key, secret-key and optionally session-token; else botocore's own chain.",
    ),
]
