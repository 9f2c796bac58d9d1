"""The conformance table: what a row is, how rows are run on a tree, and how two trees are compared.

A row is a system call (a function of conformance_calls.py) with arguments, in a state. All rows are run by one process
that sits in the tree, so paths are relative to it, and what is seen of each is one line of text: its result, or the
name of its errno. The rows themselves are in conformance_*.py, by subject.

    python conformance.py --uid 54321 [--bind] TREE SCRATCH      prints {row: outcome} as JSON

`--bind` looks at a read-only bind mount of TREE, in a mount namespace of its own that ends with the process. A test of
a mount calls `Table.different`, and `conformance_differences.known` for what may differ.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import errno
import hashlib
import json
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from fakestore import FakeStore

PATH = "me/demo/dataset/table"
"""The collection of a store that a table is run on: two versions and two aliases."""
ORDINARY = 54321
"""The uid and gid of the ordinary user; no account is needed."""
MADE_AT = 1_700_000_000 * 10**9
LONGEST = "n" * 255
XATTRS = "user.artifactfs."

_CLONE_NEWNS = 0x20000
_MS_RDONLY, _MS_NOSUID, _MS_NODEV, _MS_REMOUNT, _MS_BIND, _MS_REC, _MS_PRIVATE = 1, 2, 4, 32, 4096, 1 << 14, 1 << 18
_LONGEST_RUN = 300


class Row(NamedTuple):
    """A call, by its name in conformance_calls.py, with its arguments.

    `state` is what holds while it is made: `in DIRECTORY`, `umask OCTAL`, `files N` (as many descriptors at most).
    """

    name: str
    call: str
    arguments: tuple[Any, ...] = ()
    state: str = ""


class Opened(NamedTuple):
    """As an argument: a descriptor of that path, opened before the call and closed after it."""

    path: str
    flags: int = os.O_RDONLY


class Outside(NamedTuple):
    """As an argument: a path in an empty writable directory on the file system that holds the source."""

    path: str = ""


class Made(NamedTuple):
    """As an argument: a descriptor of a new file there, open to read and write."""

    flags: int = os.O_RDWR


class Skipped(Exception):
    """This call cannot be made here; the text says why."""


def subjects() -> dict[str, list[Row]]:
    """All rows, by subject."""
    import conformance_attributes
    import conformance_changing
    import conformance_directories
    import conformance_names
    import conformance_opening
    import conformance_reading
    import conformance_using

    modules = (
        conformance_opening,
        conformance_reading,
        conformance_using,
        conformance_names,
        conformance_attributes,
        conformance_directories,
        conformance_changing,
    )
    found: dict[str, list[Row]] = {}
    for module in modules:
        found.update(module.SUBJECTS)
    return found


# -- both sides' files


def files() -> dict[str, bytes]:
    """The first version's files: empty, of a page, about a page, packed and large ones, and programs."""
    return {
        "a.txt": b"hello\n",
        "empty": b"",
        "page.bin": bytes(range(256)) * 16,
        "odd.bin": bytes(range(256)) * 16 + b"!",
        "small.bin": b"small" * 1000,
        "large.bin": b"".join(hashlib.sha256(b"%d" % i).digest() for i in range(62_500)),
        "run.sh": b'#!/bin/sh\necho "ran $1"\nexit 7\n',
        "lost.sh": b"#!/nowhere/interpreter\n",
        "text.exe": b"neither a script nor a binary\n",
        "binary": Path(shutil.which("true") or "/bin/true").read_bytes(),
        "d/x": b"x",
        "d/e/f/deep.txt": b"deep\n",
        "with space": b" ",
        "日本.txt": b"text\n",
        LONGEST: b"long\n",
        **{f"many/{number:03}": b"%d" % number for number in range(300)},
    }


PROGRAMS = ("run.sh", "lost.sh", "text.exe", "binary")


def log_tree(store: FakeStore) -> None:
    """Log the table's files as versions of PATH."""
    store.log(PATH, files(), aliases=["prod"], executable=PROGRAMS)
    store.log(PATH, {"a.txt": b"newer\n"})


def make_tree(place: Path) -> None:
    """The same files, modes, times and links in a local directory."""
    for name, data in {**{f"v0/{name}": data for name, data in files().items()}, "v1/a.txt": b"newer\n"}.items():
        path = place / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        path.chmod(0o555 if name.removeprefix("v0/") in PROGRAMS else 0o444)
    (place / "latest").symlink_to("v1")
    (place / "prod").symlink_to("v0")


def settle(place: Path, shown: Path) -> None:
    """Give the local tree the extended attributes that the mount shows, then its times and the modes of directories."""
    for path in sorted(place.rglob("*"), reverse=True):
        if path.is_symlink():
            continue
        twin = shown / path.relative_to(place)
        for name in os.listxattr(twin):
            os.setxattr(path, name, os.getxattr(twin, name))
        number = path.relative_to(place).parts[0].removeprefix("v")
        made = MADE_AT + int(number) * 10**9
        os.utime(path, ns=(made, made))
        if path.is_dir():
            path.chmod(0o555)
    place.chmod(0o555)


# -- running


def run(tree: Path, scratch: Path, *, uid: int = 0, bind: bool = False) -> dict[str, str]:
    """The outcome of every row on a tree, as that user."""
    words = [sys.executable, __file__, "--uid", str(uid), *(["--bind"] if bind else []), str(tree), str(scratch)]
    ended = subprocess.run(words, capture_output=True, text=True, timeout=_LONGEST_RUN, cwd="/")
    assert ended.returncode == 0, ended.stderr[-3000:]
    outcomes: dict[str, str] = json.loads(ended.stdout)
    return outcomes


class Table:
    """Both sides of the table under one directory: a store to be mounted, and the local tree that it is compared with.

    The outcomes of the local side are looked for once.
    """

    def __init__(self, place: Path, store: FakeStore) -> None:
        self.store = store
        self._source = place / "source"
        self._scratch = place / "scratch"
        self._settled = False
        self._local: dict[int, dict[str, str]] = {}
        for directory in (self._source, self._scratch):
            directory.mkdir()
        log_tree(store)
        make_tree(self._source)

    def different(self, mountpoint: Path, uid: int) -> dict[str, tuple[str, str]]:
        """The rows whose outcome is another in a mount of the store: what is seen locally, and in the mount."""
        shown = mountpoint / PATH
        if not self._settled:
            settle(self._source, shown)
            self._settled = True
        if uid not in self._local:
            self._local[uid] = run(self._source, self._scratch, uid=uid, bind=True)
        mounted = run(shown, self._scratch, uid=uid)
        return {name: (local, mounted[name]) for name, local in self._local[uid].items() if local != mounted[name]}

    def outcome(self, name: str, uid: int) -> str:
        """What was seen locally of a row."""
        return self._local[uid][name]


def outcomes(scratch: Path, rows: list[Row]) -> dict[str, str]:
    """The outcome of each row, in the tree that is the current directory."""
    return {row.name: outcome(row, scratch) for row in rows}


def outcome(row: Row, scratch: Path) -> str:
    """What is seen of one row: its result, or its errno."""
    import conformance_calls

    call: Callable[..., object] = getattr(conformance_calls, row.call)
    with contextlib.ExitStack() as stack:
        outside = ""
        if any(isinstance(argument, Outside | Made) for argument in row.arguments):
            outside = stack.enter_context(tempfile.TemporaryDirectory(dir=scratch))
        try:
            arguments = [_resolved(argument, outside, stack) for argument in row.arguments]
        except OSError as error:
            return f"not reached: {errno.errorcode[error.errno or 0]}"
        stack.enter_context(_in_state(row.state))
        try:
            return _text(call(*arguments))
        except Skipped as reason:
            return f"skipped: {reason}"
        except OSError as error:
            return errno.errorcode[error.errno or 0]


def _resolved(argument: object, outside: str, stack: contextlib.ExitStack) -> object:
    if isinstance(argument, Outside):
        return os.path.join(outside, argument.path)
    if isinstance(argument, Opened):
        descriptor = os.open(argument.path, argument.flags)
    elif isinstance(argument, Made):
        descriptor = os.open(os.path.join(outside, "made"), argument.flags | os.O_CREAT, 0o600)
    else:
        return argument
    stack.callback(_close, descriptor)
    return descriptor


def _close(descriptor: int) -> None:
    with contextlib.suppress(OSError):  # the call may have closed it
        os.close(descriptor)


@contextlib.contextmanager
def _in_state(state: str) -> Iterator[None]:
    what, _, how = state.partition(" ")
    if what == "in":
        here = os.open(".", os.O_RDONLY | os.O_DIRECTORY)
        os.chdir(how)
        try:
            yield
        finally:
            os.fchdir(here)
            os.close(here)
    elif what == "umask":
        before = os.umask(int(how, 8))
        try:
            yield
        finally:
            os.umask(before)
    elif what == "files":
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (int(how), hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    else:
        assert not state, state
        yield


def _text(value: object) -> str:
    if isinstance(value, bytes):
        return repr(value) if len(value) <= 40 else f"{len(value)} bytes {hashlib.sha256(value).hexdigest()[:12]}"
    return re.sub(r"\s+", " ", str(value)) if isinstance(value, str) else repr(value)


def _show_read_only(tree: str) -> None:
    """Cover the tree by a read-only bind mount of itself that nobody else sees."""
    libc = ctypes.CDLL(None, use_errno=True)

    def checked(result: int) -> None:
        if result:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code))

    place = os.fsencode(tree)
    checked(libc.unshare(_CLONE_NEWNS))
    checked(libc.mount(b"none", b"/", None, _MS_REC | _MS_PRIVATE, None))
    checked(libc.mount(place, place, None, _MS_BIND, None))
    flags = _MS_BIND | _MS_REMOUNT | _MS_RDONLY | _MS_NOSUID | _MS_NODEV
    checked(libc.mount(b"none", place, None, flags, None))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--uid", type=int, default=0)
    parser.add_argument("--bind", action="store_true")
    parser.add_argument("tree")
    parser.add_argument("scratch")
    words = parser.parse_args()
    import conformance_calls  # while every module can be read

    assert conformance_calls.__doc__
    rows = [row for listed in subjects().values() for row in listed]
    if words.bind:
        _show_read_only(words.tree)
    scratch = Path(tempfile.mkdtemp(dir=words.scratch))
    os.chdir(words.tree)
    if words.uid:
        # It has no way to these places by their names, so its scratch is where it may write.
        os.chown(scratch, words.uid, words.uid)
        scratch = Path(f"/proc/self/fd/{os.open(scratch, os.O_PATH | os.O_DIRECTORY)}")
        os.setgroups([])
        os.setresgid(words.uid, words.uid, words.uid)
        os.setresuid(words.uid, words.uid, words.uid)
    os.environ.clear()
    os.environ["PATH"] = "/usr/bin:/bin"
    print(json.dumps(outcomes(scratch, rows)))


if __name__ == "__main__":
    sys.modules["conformance"] = sys.modules["__main__"]
    main()
