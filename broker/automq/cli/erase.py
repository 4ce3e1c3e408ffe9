"""`automq erase`: removes one cluster from a store, nothing else."""

from typing import Annotated

import typer

from automq.cli.options import CredentialsOption


def erase(
    uri: Annotated[str, typer.Argument(metavar="STORE", help="s3://BUCKET[/PREFIX][?...] or file:///FOLDER.")],
    cluster_id: Annotated[
        str | None, typer.Option(help="The cluster to remove; another one is left alone. Default: the owner's.")
    ] = None,
    owner: Annotated[str | None, typer.Option(metavar="UID", help="The recorded owner, where there is one.")] = None,
    credentials_dir: CredentialsOption = None,
) -> int:
    """Remove a cluster's folder and then the key `cluster`; nothing else, and only if what was named matches.

    With --owner alone the id is read from the store; a prefix that holds nothing of that owner is left as it is.
    """
    from rich.console import Console
    from rich.progress import Progress

    from automq.server.tools.commands import erase_cluster

    if cluster_id is None and owner is None:
        raise typer.BadParameter("name the cluster to remove: --cluster-id, --owner, or both")
    with Progress(console=Console(stderr=True)) as progress:
        task = progress.add_task("erasing", total=None)
        done = erase_cluster(
            uri,
            credentials_dir,
            cluster_id=cluster_id,
            owner=owner,
            on_progress=lambda count: progress.update(task, description=f"erasing: {count} objects"),
        )
    typer.echo(
        f"nothing to erase: {done.kept}" if done.kept else f"{done.keys} objects of cluster {done.cluster_id} are gone"
    )
    return 0
