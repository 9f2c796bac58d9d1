"""`cache`: the disk cache of what was fetched from a bucket."""

from __future__ import annotations

import contextlib

import click

from ..artifact import Artifact
from ..cache import CacheInfo
from ..errors import EntryNotFoundError, Error
from ..names import shown
from ..warming import JOBS, warm
from . import completion
from .amounts import counted, size
from .commands import Family, command
from .facts import version_fact
from .invocation import Invocation


@command("info", examples=["artifactfs cache info"])
def info(invocation: Invocation) -> None:
    """Show how much is kept, and the limits.

    The limits are set by ARTIFACTFS_CACHE_LIMIT (how much is kept at most) and ARTIFACTFS_CACHE_KEEP_FREE (how much of
    the disk is left free), or by cache_limit and cache_keep_free in config.toml: sizes like 50GB.
    """
    found = _info(invocation)
    if invocation.output.json:
        invocation.output.data(found._asdict())
        return
    pairs = [
        ("kept", f"{size(found.size)} of {counted(found.things, 'file')} or packs of files"),
        ("limit", size(found.limit)),
        ("disk", f"{size(found.free)} free; {size(found.keep_free)} are left free"),
    ]
    if found.reserved:
        pairs.append(("reserved", f"{size(found.reserved)} by running programs"))
    if found.refused:
        pairs.append(("not kept", f"{counted(found.refused, 'piece')} so far, for want of space"))
    invocation.output.pairs(found.directory, pairs)


@command("warm", examples=["artifactfs cache warm digits:prod", "artifactfs cache warm digits:v0 --prefix images/"])
@click.argument("ref", shell_complete=completion.versions)
@click.option("--prefix", metavar="P", help="Only the files whose path begins with P.")
@click.option(
    "--jobs", metavar="N", type=click.IntRange(1, 256), default=JOBS, help=f"Files at once (normally {JOBS})."
)
def _warm(invocation: Invocation, ref: str, prefix: str | None, jobs: int) -> None:
    """Fetch a version's files before they are read.

    What is in the cache already, or lies on this machine anyway, is not fetched again. References are left out.
    """
    artifact = Artifact.of(invocation.store(), invocation.resolve(ref))
    entries = [entry for entry in artifact.manifest.in_order() if entry.path.startswith(prefix or "")]
    if prefix and not entries:
        raise EntryNotFoundError(f"{artifact.name} has no file whose path begins with {shown(prefix)}")
    total = sum(entry.size or 0 for entry in entries)
    with contextlib.suppress(Error):  # who has no cache is told by it
        limit = _info(invocation).limit
        if total > limit:
            invocation.output.note(f"the cache keeps {size(limit)} at most, these are {size(total)}; see `cache info`")
    invocation.when_interrupted = "what was fetched stays; do it again to go on"
    progress = invocation.output.progress()
    if progress is not None:
        progress.start(f"fetch {artifact.name}", len(entries), total)
    try:
        done = warm(entries, invocation.store(), None if progress is None else progress.advance, jobs=jobs)
    finally:
        if progress is not None:
            progress.done()
    if invocation.output.json:
        fact = version_fact(artifact.membership)
        fact.update(warmed=done.files, warmed_bytes=done.size, skipped=done.references)
        invocation.output.data(fact)
        return
    text = f"{artifact.qualified_name}: {counted(done.files, 'file')}, {size(done.size)}, fetched"
    skipped = f"; {counted(done.references, 'reference')} left out" if done.references else ""
    invocation.output.line(text + skipped)


@command("clean", examples=["artifactfs cache clean --keep 10GB", "artifactfs cache clean --all"])
@click.option("--keep", metavar="SIZE", help="How much to keep (10GB, 500MiB); what was used last stays.")
@click.option("--all", "everything", is_flag=True, help="Keep nothing but what is in use.")
@click.pass_context
def clean(context: click.Context, invocation: Invocation, keep: str | None, everything: bool) -> None:
    """Take out what was not used for longest.

    Without an option, until the limits are kept. What is being read through a mount stays. All files are counted anew.
    """
    from ..config import parse_size
    from ..connect import open_cache

    if keep is not None and everything:
        raise click.UsageError("--keep and --all exclude each other; give one of them", context)
    kept = 0 if everything else None if keep is None else parse_size(keep)
    with contextlib.closing(open_cache(invocation.config)) as cache:
        freed = cache.clean(kept)
        left = cache.info()
    if invocation.output.json:
        invocation.output.data({"freed": freed, **left._asdict()})
        return
    invocation.output.line(f"{size(freed)} freed; {size(left.size)} kept")


def _info(invocation: Invocation) -> CacheInfo:
    from ..connect import open_cache

    with contextlib.closing(open_cache(invocation.config)) as cache:
        return cache.info()


cache = Family(
    "cache",
    family=[info, _warm, clean],
    help="""Look at the disk cache, fill it, or clear it.

    What is read from a bucket stays on this machine, in pieces, so that it is fetched once. The cache is shared by all
    programs of a user; what was not used for longest makes room.
    """,
)
