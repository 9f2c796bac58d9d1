"""`install-mount-helper`: what makes `mount -t fuse.artifactfs` and lines of /etc/fstab work."""

from __future__ import annotations

import click

from .commands import command
from .invocation import Invocation


@command(
    "install-mount-helper",
    examples=[
        "artifactfs install-mount-helper",
        "artifactfs install-mount-helper --uninstall",
    ],
)
@click.option("--directory", metavar="DIR", help="Where to put it, if not at /sbin.")
@click.option("--uninstall", is_flag=True, help="Take it away again.")
def install_mount_helper(invocation: Invocation, directory: str | None, uninstall: bool) -> None:
    """Let mount(8) and /etc/fstab mount stores.

    Writes mount.artifactfs and mount.fuse.artifactfs, which run the artifactfs of this environment, and prints where.
    Then `mount -t fuse.artifactfs STORE DIR -o where=me/demo,allow_other` works, and so does the same in /etc/fstab:
    `STORE DIR fuse.artifactfs where=me/demo,nofail 0 0`.
    """
    from ..mount import mounthelper

    act = mounthelper.uninstall if uninstall else mounthelper.install
    paths = act(directory or mounthelper.DIRECTORY)
    if invocation.output.json:
        invocation.output.data({"removed" if uninstall else "written": paths})
        return
    for path in paths:
        invocation.output.line(path)
