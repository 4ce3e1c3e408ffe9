"""`automq erase`: removes one cluster from a store, nothing else."""

from typing import Annotated

import typer

from automq.cli.options import CredentialsOption


def erase(
    uri: Annotated[str, typer.Argument(metavar="STORE", help="s3://BUCKET[/PREFIX][?...] or file:///FOLDER.")],
    cluster_id: Annotated[str, typer.Option(help="The cluster to remove; another one is left alone.")],
    owner: Annotated[str | None, typer.Option(metavar="UID", help="The recorded owner, where there is one.")] = None,
    credentials_dir: CredentialsOption = None,
) -> int:
    """Remove a cluster's folder and then the key `cluster`; nothing else, and only if both match."""
    from rich.console import Console
    from rich.progress import Progress

    from automq.server.tools import erase_cluster

    with Progress(console=Console(stderr=True)) as progress:
        task = progress.add_task(f"erasing {cluster_id}", total=None)
        deleted = erase_cluster(
            uri,
            credentials_dir,
            cluster_id=cluster_id,
            owner=owner,
            on_progress=lambda done: progress.update(task, description=f"erasing {cluster_id}: {done} objects"),
        )
    typer.echo(f"{deleted} objects of cluster {cluster_id} are gone")
    return 0
