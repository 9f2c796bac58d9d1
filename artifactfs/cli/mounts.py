"""`mount`, `umount`, `mounts`, and the hidden command that a mount's keeper starts its workers with."""

from __future__ import annotations

import os
import re
import sys
import time
from typing import TYPE_CHECKING, Any

import click

from ..errors import InvalidError, MountNotFoundError
from ..names import LATEST
from . import completion
from .amounts import age
from .commands import command
from .invocation import Invocation
from .output import Column
from .places import Place, find

if TYPE_CHECKING:
    from ..mount.session import MountInfo
    from ..mount.tree import Tree
    from ..reach import Reach


class Mountpoint(click.Path):
    """A directory that is not looked at, unlike a click.Path: one that does not answer is still to be taken down."""

    def __init__(self) -> None:
        super().__init__(file_okay=False)

    def convert(self, value: Any, *_: Any, **__: Any) -> Any:
        return value


class Umask(click.ParamType[str]):
    """Permission bits in octal, kept as they were written."""

    name = "octal"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        text = str(value)
        if not re.fullmatch("[0-7]{1,4}", text) or int(text, 8) > 0o777:
            self.fail(f"{text!r} is not a umask; write it in octal, as 022", param, ctx)
        return text


_ID = click.IntRange(0, (1 << 32) - 2)


@command(
    "mount",
    examples=["artifactfs mount ~/artifacts", "artifactfs mount demo me/demo", "artifactfs mount digits digits:prod"],
)
@click.argument("directory", metavar="DIR", type=Mountpoint())
@click.argument("where", required=False, shell_complete=completion.places)
@click.option("--foreground", is_flag=True, help="Stay until it is taken down; log to stderr.")
@click.option("--allow-other", is_flag=True, help="Let other users read it (always so for root).")
@click.option(
    "--transport",
    type=click.Choice(["auto", "kernel", "libfuse"]),
    default="auto",
    show_default=True,
    help="How to speak with the kernel.",
)
@click.option("--no-passthrough", is_flag=True, help="Serve every read, also of large local files.")
@click.option(
    "--refresh",
    metavar="SECONDS",
    type=click.FloatRange(0, 86400),
    default=1.0,
    show_default=True,
    help="How old a list of versions and aliases may be.",
)
@click.option(
    "--workers",
    metavar="N",
    type=click.IntRange(1, 16),
    help="Processes that serve it.  [default: one for each processor]",
)
@click.option("--restart", is_flag=True, help="Put this program's code under a mount that is there.")
@click.option("--nonempty", is_flag=True, help="Mount over a directory that holds files.")
@click.option("--noexec", is_flag=True, help="Let no program in it be run.")
@click.option("--uid", type=_ID, help="The user whom all of it belongs to.  [default: who mounts]")
@click.option("--gid", type=_ID, help="The group that all of it belongs to.  [default: who mounts]")
@click.option("--umask", type=Umask(), help="Bits, in octal, that files and directories do not have.  [default: 0]")
@click.option("--systemd-unit", is_flag=True, help="Mount nothing; print a systemd unit that mounts it so.")
def mount(
    invocation: Invocation,
    directory: str,
    where: str | None,
    foreground: bool,
    allow_other: bool,
    transport: str,
    no_passthrough: bool,
    refresh: float,
    workers: int | None,
    restart: bool,
    nonempty: bool,
    noexec: bool,
    uid: int | None,
    gid: int | None,
    umask: str | None,
    systemd_unit: bool,
) -> None:
    """Show a store as a directory.

    DIR is an empty directory. WHERE is an entity, entity/project, or the files of one collection[:alias]; without it,
    all is shown: entity/project/type/collection/version. Returns when the directory can be read.

    DIR may also be /dev/fd/N: a /dev/fuse that the caller has opened and mounted. That mount is served until it is
    unmounted, which is left to its mounter.

    With --restart a mount at DIR goes on with the code of this program and its own options; readers notice nothing.
    """
    if restart:
        _restart(invocation, directory, where)
        return
    place = find(invocation, where)
    if systemd_unit:
        _print_unit(invocation, directory, place, where)
        return
    shown = _written(place, invocation)
    config = invocation.config
    # The keeper must not inherit an open catalog.
    invocation.close()
    from ..config import hand_down, is_url, notify_socket, without_credentials
    from ..mount import session, unit

    invocation.when_interrupted = "nothing stays mounted"
    worker = [sys.executable, "-m", "artifactfs.cli.main"]
    if is_url(config.store):
        hand_down(config.store)  # it may hold a password, which everybody could read on a command line
    else:
        worker += ["--store", config.store]
    worker += ["mount-worker"]
    worker += ["--cache-dir", config.cache_dir, "--refresh", str(refresh)]
    for name, value in (("--uid", uid), ("--gid", gid), ("--umask", umask)):
        worker += [name, str(value)] if value is not None else []
    session.mount(
        directory,
        worker,
        store=without_credentials(config.store),
        where=shown,
        state_dir=config.state_dir,
        private=[config.cache_dir],
        foreground=foreground,
        allow_other=True if allow_other else None,
        transport=transport,
        passthrough=not no_passthrough,
        nonempty=nonempty,
        workers=workers,
        noexec=noexec,
        notice=invocation.output.note,
        ready=lambda mounted: _announce(invocation, mounted, is_service=foreground, was_asked=transport != "auto"),
    )
    if foreground:
        unit.tell(notify_socket(), unit.STOPPING)


@command("umount", examples=["artifactfs umount ~/artifacts"])
@click.argument("directory", metavar="DIR", type=Mountpoint())
@click.option("--lazy", is_flag=True, help="Also when it is in use: it goes when its last user does.")
def umount(invocation: Invocation, directory: str, lazy: bool) -> None:
    """Take a mount down."""
    from ..mount import session

    session.unmount(directory, state_dir=invocation.config.state_dir, lazy=lazy)
    if invocation.output.json:
        invocation.output.data({"mountpoint": os.path.abspath(directory), "mounted": False})
    else:
        invocation.output.note(f"{os.path.abspath(directory)} is no longer mounted")


@command("mounts", examples=["artifactfs mounts", "artifactfs mounts --json", "artifactfs mounts ~/artifacts --stats"])
@click.argument("directory", metavar="[DIR]", required=False, type=Mountpoint())
@click.option("--stats", is_flag=True, help="Add what the mount at DIR has done.")
def mounts(invocation: Invocation, directory: str | None, stats: bool) -> None:
    """List the mounts.

    TRANSPORT is how it speaks with the kernel: by the kernel's own protocol, or through libfuse. MODE is how files are
    read: passthrough (by the kernel from the store's own files), no-open or cached (served); with "no resend", readers
    get an error when a worker dies. RESTARTS counts the workers that had to be replaced. Lines below tell what of a
    store is out of reach; --json has it as `out_of_reach`.
    """
    from ..mount import session, system

    if stats and directory is None:
        raise InvalidError("--stats is for one mount; name its directory")
    found = session.mounts(invocation.config.state_dir)
    if directory is not None:
        place = system.real_place(directory)
        found = [info for info in found if info.mountpoint == place]
        if not found:
            raise MountNotFoundError(f"no running mount of artifactfs is at {place}; `artifactfs mounts` lists what is")
    done = session.statistics(directory, state_dir=invocation.config.state_dir) if stats and directory else None
    lost = [session.out_of_reach(info) for info in found]
    if invocation.output.json:
        told = [{**info.to_json(), "out_of_reach": since} for info, since in zip(found, lost, strict=True)]
        invocation.output.data([{**told[0], "stats": done._asdict()}] if done is not None else told)
        return
    if not found:
        invocation.output.note("nothing is mounted")
    titles = ["MOUNTPOINT", "STORE", "WHERE", "TRANSPORT", "MODE", ">KEEPER", ">WORKER", ">RESTARTS", "SINCE"]
    columns = [Column(title.lstrip(">"), title.startswith(">")) for title in titles]
    invocation.output.table(columns, [_row(info) for info in found])
    for info, parts in zip(found, lost, strict=True):
        for part, since in parts.items():
            at = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(since))
            invocation.output.line(f"{info.mountpoint}: the store's {part} cannot be reached since {at}")
    if done is not None:
        invocation.output.line(
            f"{done.operations} operations, half of them within {done.p50 * 1000:.3g} ms and 99 % within"
            f" {done.p99 * 1000:.3g} ms; {done.reads} reads of {done.bytes} bytes, {done.hits} of files that were open"
        )


@command("mount-worker", examples=[], hidden=True)
@click.option("--handover", required=True)
@click.option("--cache-dir", required=True)
@click.option("--refresh", type=float, default=1.0)
@click.option("--uid", type=int, default=os.getuid)
@click.option("--gid", type=int, default=os.getgid)
@click.option("--umask", type=Umask(), default="0")
def mount_worker(
    invocation: Invocation, handover: str, cache_dir: str, refresh: float, uid: int, gid: int, umask: str
) -> None:
    """Serve a mount; started by `mount`."""
    from ..config import load
    from ..connect import connect_mounted, preload
    from ..mount.fuse.waits import WatchedStore
    from ..mount.keeping.nursery import serve_nursery
    from ..mount.shown.owner import Owner
    from ..mount.tree import Tree

    def open_tree(where: str, reach: Reach) -> Tree:
        config = load(store=invocation.location, cache_dir=cache_dir)
        tree = Tree.open(
            WatchedStore(connect_mounted(config, reach), reach),
            where,
            entity=config.entity,
            project=config.project,
            refresh=refresh,
            reach=reach,
        )
        tree.owner = Owner(uid, gid, int(umask, 8))
        return tree

    raise click.exceptions.Exit(serve_nursery(handover, open_tree, preload))


def _restart(invocation: Invocation, directory: str, where: str | None) -> None:
    if where is not None:
        raise InvalidError("a mount that goes on shows what it did; leave WHERE away")
    from ..mount import session

    invocation.when_interrupted = "the mount goes on, with the former code or the new"
    _announce(invocation, session.restart(directory, state_dir=invocation.config.state_dir), is_service=False)


def _written(place: Place, invocation: Invocation) -> str:
    """A place in the one form that needs no defaults; a collection is its latest version."""
    if place.membership is not None:
        return place.membership.qualified_name
    if place.collection is not None:
        return invocation.resolve(f"{place.collection.path}:latest").qualified_name
    return "/".join(record.name for record in (place.entity, place.project) if record is not None)


def _print_unit(invocation: Invocation, directory: str, place: Place, where: str | None) -> None:
    """The unit of a service that mounts as this command line would. An alias is followed when the service starts."""
    from ..mount import unit

    shown = _written(place, invocation)
    if place.collection is not None:
        shown = f"{place.collection.path}:{(where or '').partition(':')[2] or LATEST}"
    mountpoint = os.path.abspath(directory)
    program = [sys.executable, "-m", "artifactfs"]
    at_store = [*program, "--store", invocation.config.store]
    start = [*at_store, "mount", "--foreground", *_options_given("systemd_unit", "foreground"), "--", mountpoint]
    text = unit.unit_text(mountpoint, start + ([shown] if shown else []), [*program, "umount", "--lazy", mountpoint])
    name = unit.unit_name(mountpoint)
    invocation.output.text(text)
    invocation.output.note(f"write this to ~/.config/systemd/user/{name}, then `systemctl --user enable --now {name}`")


def _options_given(*others: str) -> list[str]:
    """The options of this command that were given, as words again, but for these others."""
    context = click.get_current_context()
    words = []
    for option in context.command.params:
        name = option.name or ""
        if not isinstance(option, click.Option) or not option.expose_value or name in others:
            continue
        if context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE:
            words.append(option.opts[-1])
            if not option.is_flag:
                words.append(str(context.params[name]))
    return words


def _announce(invocation: Invocation, info: MountInfo, *, is_service: bool, was_asked: bool = True) -> None:
    if is_service:
        from ..config import notify_socket
        from ..mount import unit

        unit.tell(notify_socket(), unit.READY)
    if invocation.output.json:
        invocation.output.data(info.to_json())
    else:
        invocation.output.line(info.mountpoint)
    invocation.output.finish()
    if not was_asked:
        invocation.output.note(f"mounted by the transport {info.transport}")


def _row(info: MountInfo) -> list[str]:
    since = age(int(info.started * 10**9), time.time_ns()).removesuffix(" ago")
    worker = str(info.worker_pid) if info.worker_pid else "-"
    numbers = [str(info.keeper_pid), worker, str(info.restarts)]
    mode = info.mode if info.resend else f"{info.mode}, no resend"
    return [info.mountpoint, info.store, info.where or "all", info.transport, mode, *numbers, since]
