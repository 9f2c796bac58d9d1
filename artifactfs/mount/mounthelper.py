"""The mount helper: what mount(8) and /etc/fstab run for the types `artifactfs` and `fuse.artifactfs`.

    mount.artifactfs STORE DIR [-sfnv] [-o OPTION,...]

Translates into a command line of the program, and its exit code into one of mount(8)'s. `install` puts a script at
/sbin, where mount(8) looks, which runs the helper of this environment.
"""

from __future__ import annotations

import os
import re
import shlex
import stat
import subprocess
import sys
from collections.abc import Iterator, Sequence
from typing import NoReturn

from ..errors import ConflictError, InvalidError, MountError, NotAllowedError, NotFoundError

NAMES = ("mount.artifactfs", "mount.fuse.artifactfs")
"""What mount(8) looks for, for each of the two types."""
DIRECTORY = "/sbin"

_MARK = "# Written by `artifactfs install-mount-helper`, which removes it too: --uninstall."
_USAGE_FAILED, _MOUNT_FAILED = 1, 32
_WRONG_WORDS = 2
"""The program's exit code for a command line that is off."""

_FLAGS = {"allow_other": "--allow-other", "nonempty": "--nonempty", "no_passthrough": "--no-passthrough"}
_FLAGS["noexec"] = "--noexec"
_VALUES = ("refresh", "transport", "uid", "gid", "umask", "workers")
# mount(8) says `rw` where nobody said `ro`. The rest is what a mount of ours is anyway, or tells mount(8) itself.
_IDLE = re.compile(
    "ro|rw|exec|nosuid|nodev|async|noatime|relatime|nodiratime|strictatime|lazytime|defaults|auto|noauto|fail|nofail|"
    "user|nouser|users|nousers|owner|noowner|group|nogroup|_netdev|default_permissions|"
    "(x-|X-|comment=|uhelper=|helper=|fsname=|subtype=|user=).*"
)
_REFUSED = {
    "suid": "programs in it never get rights by their owner",
    "dev": "it holds no devices",
    "remount": "`artifactfs mount --restart DIR` puts new code under it",
}


def main() -> NoReturn:
    """Run as `mount.artifactfs`; exits with a code of mount(8)."""
    try:
        words, is_fake = words_of(sys.argv[1:])
    except InvalidError as error:
        sys.stderr.write(f"mount.artifactfs: {error}\n")
        sys.exit(_USAGE_FAILED)
    if is_fake:
        sys.exit(0)
    # -P, which keeps the current directory out of the imports, came with 3.11.
    ended = subprocess.run(
        [sys.executable, "-m", "artifactfs", *words], check=False, cwd="/", stdout=subprocess.DEVNULL
    )
    sys.exit({0: 0, _WRONG_WORDS: _USAGE_FAILED}.get(ended.returncode, _MOUNT_FAILED))


def words_of(arguments: Sequence[str]) -> tuple[list[str], bool]:
    """The program's words for a command line as mount(8) writes it, and whether it only pretends (-f).

    Raises InvalidError, also for an option that is not known, unless mount(8) is told to be sloppy (-s).
    """
    places, options, letters = [], [], set()
    rest = iter(arguments)
    for word in rest:
        if word == "-o":
            options += _split(_next(rest, word))
        elif word in ("-t", "-N"):
            _next(rest, word)
        elif word.startswith("-") and len(word) > 1:
            unknown = set(word[1:]) - set("sfnvrw")
            if unknown:
                raise InvalidError(f"option -{min(unknown)} is not known; write STORE DIR [-sfnv] [-o OPTIONS]")
            letters |= set(word[1:])
        else:
            places.append(word)
    if len(places) != 2:
        raise InvalidError(f"{len(places)} places were given; write STORE DIR [-sfnv] [-o OPTIONS]")
    store, directory = places
    where, words = _translated(options, is_sloppy="s" in letters)
    # A service that runs as root may have no home, and a relative store was meant from where mount(8) was called.
    if "://" not in store:
        store = os.path.abspath(store)
    said = ["-v"] if "v" in letters else ["-q"]
    return ["--store", store, *said, "mount", *words, "--", os.path.abspath(directory), *where], "f" in letters


def install(directory: str = DIRECTORY) -> list[str]:
    """Put the helper where mount(8) looks; the files that were written. Again is harmless.

    Raises ConflictError where a file is in the way that is not ours, NotAllowedError, MountError.
    """
    program = os.path.join(os.path.dirname(sys.executable), NAMES[0])
    if not os.access(program, os.X_OK):
        raise MountError(f"{program} is missing; install artifactfs into this environment with pip")
    text = f'#!/bin/sh\n{_MARK}\nexec {shlex.quote(program)} "$@"\n'
    paths = [os.path.join(directory, name) for name in NAMES]
    for path in paths:
        if os.path.lexists(path) and not _is_ours(path):
            raise ConflictError(f"{path} is there and was not written by artifactfs; move it away first")
    for path in paths:
        _write(path, text)
    return paths


def uninstall(directory: str = DIRECTORY) -> list[str]:
    """Take the helper away again; the files that were removed. Raises NotFoundError, NotAllowedError."""
    paths = [path for name in NAMES if _is_ours(path := os.path.join(directory, name))]
    if not paths:
        raise NotFoundError(f"no mount helper of artifactfs is in {directory}")
    for path in paths:
        try:
            os.unlink(path)
        except OSError as error:
            raise _not_changed(path, error) from None
    return paths


def _next(words: Iterator[str], option: str) -> str:
    for word in words:
        return word
    raise InvalidError(f"option {option} needs a value")


def _split(text: str) -> list[str]:
    """Options at their commas; a value in double quotes may hold some."""
    options, current, is_quoted = [], "", False
    for char in text:
        if char == '"':
            is_quoted = not is_quoted
        elif char == "," and not is_quoted:
            options.append(current)
            current = ""
        else:
            current += char
    return [option for option in [*options, current] if option]


def _translated(options: Sequence[str], *, is_sloppy: bool) -> tuple[list[str], list[str]]:
    """What is shown, as no word or one, and the program's options."""
    where: list[str] = []
    words: list[str] = []
    for option in options:
        name, sign, value = option.partition("=")
        if name == "where" and sign:
            where = [value] if value else []
        elif name in _VALUES and sign:
            words += [f"--{name}", value]
        elif option in _FLAGS:
            words.append(_FLAGS[option])
        elif name in _REFUSED:
            raise InvalidError(f"option {name} cannot be; {_REFUSED[name]}")
        elif not (_IDLE.fullmatch(option) or is_sloppy):
            known = ", ".join(["where=", *(f"{known}=" for known in _VALUES), *_FLAGS])
            raise InvalidError(f"option {option!r} is not known; those of artifactfs are {known}")
    return where, words


def _is_ours(path: str) -> bool:
    try:
        if not stat.S_ISREG(os.lstat(path).st_mode):
            return False
        with open(path, encoding="utf-8", errors="replace") as file:
            return _MARK in file.read(1024)
    except OSError:
        return False


def _write(path: str, text: str) -> None:
    temporary = f"{path}.{os.getpid()}"
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o755)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            os.fchmod(descriptor, 0o755)
        os.rename(temporary, path)
    except OSError as error:
        if os.path.lexists(temporary):
            os.unlink(temporary)
        raise _not_changed(path, error) from None


def _not_changed(path: str, error: OSError) -> MountError | NotAllowedError:
    if isinstance(error, PermissionError):
        return NotAllowedError(f"{path} may not be changed by this user; run it as root")
    return MountError(f"{path} cannot be changed; {error.strerror}")


if __name__ == "__main__":
    main()
