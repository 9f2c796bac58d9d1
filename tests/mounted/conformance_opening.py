"""Rows of the conformance table: opening, by every flag, of everything that there is to open."""

from __future__ import annotations

import os

from conformance import LONGEST, Opened, Outside, Row

_FDCWD = -100
_TARGETS = {
    "a file": "v0/a.txt",
    "an empty file": "v0/empty",
    "a large file": "v0/large.bin",
    "a program": "v0/run.sh",
    "a directory": "v0/d",
    "the top": ".",
    "a link": "latest",
    "a file below a link": "prod/a.txt",
    "a missing name": "v0/missing",
    "a missing name at the top": "missing",
    "a name below a file": "v0/a.txt/below",
    "a name in a missing directory": "v0/missing/name",
    "a file with a slash": "v0/a.txt/",
    "a directory with a slash": "v0/d/",
    "a missing name with a slash": "v0/missing/",
    "a link with a slash": "latest/",
}
_FLAGS = {
    "O_RDONLY": os.O_RDONLY,
    "O_WRONLY": os.O_WRONLY,
    "O_RDWR": os.O_RDWR,
    "O_ACCMODE": os.O_WRONLY | os.O_RDWR,
    "O_CREAT": os.O_RDONLY | os.O_CREAT,
    "O_WRONLY|O_CREAT": os.O_WRONLY | os.O_CREAT,
    "O_CREAT|O_EXCL": os.O_RDONLY | os.O_CREAT | os.O_EXCL,
    "O_WRONLY|O_CREAT|O_EXCL": os.O_WRONLY | os.O_CREAT | os.O_EXCL,
    "O_WRONLY|O_CREAT|O_TRUNC": os.O_WRONLY | os.O_CREAT | os.O_TRUNC,
    "O_RDONLY|O_TRUNC": os.O_RDONLY | os.O_TRUNC,
    "O_WRONLY|O_TRUNC": os.O_WRONLY | os.O_TRUNC,
    "O_RDONLY|O_APPEND": os.O_RDONLY | os.O_APPEND,
    "O_WRONLY|O_APPEND": os.O_WRONLY | os.O_APPEND,
    "O_EXCL alone": os.O_RDONLY | os.O_EXCL,
    "O_DIRECT": os.O_RDONLY | os.O_DIRECT,
    "O_DIRECTORY": os.O_RDONLY | os.O_DIRECTORY,
    "O_DIRECTORY|O_WRONLY": os.O_WRONLY | os.O_DIRECTORY,
    "O_DIRECTORY|O_CREAT": os.O_RDONLY | os.O_DIRECTORY | os.O_CREAT,
    "O_NOFOLLOW": os.O_RDONLY | os.O_NOFOLLOW,
    "O_NOFOLLOW|O_CREAT": os.O_RDONLY | os.O_NOFOLLOW | os.O_CREAT,
    "O_NOATIME": os.O_RDONLY | os.O_NOATIME,
    "O_NONBLOCK": os.O_RDONLY | os.O_NONBLOCK,
    "O_SYNC": os.O_RDONLY | os.O_SYNC,
    "O_DSYNC": os.O_RDONLY | os.O_DSYNC,
    "O_ASYNC": os.O_RDONLY | os.O_ASYNC,
    "O_NOCTTY": os.O_RDONLY | os.O_NOCTTY,
    "O_CLOEXEC": os.O_RDONLY | os.O_CLOEXEC,
    "O_TMPFILE|O_WRONLY": os.O_TMPFILE | os.O_WRONLY,
    "O_TMPFILE|O_RDWR|O_EXCL": os.O_TMPFILE | os.O_RDWR | os.O_EXCL,
    "O_TMPFILE|O_RDONLY": os.O_TMPFILE | os.O_RDONLY,
    "O_PATH": os.O_PATH,
    "O_PATH|O_NOFOLLOW": os.O_PATH | os.O_NOFOLLOW,
    "O_PATH|O_DIRECTORY": os.O_PATH | os.O_DIRECTORY,
    "O_PATH|O_CREAT": os.O_PATH | os.O_CREAT,
}
_REOPENED = {
    "a file": ("v0/a.txt", os.O_RDONLY),
    "a large file": ("v0/large.bin", os.O_RDONLY),
    "a directory": ("v0/d", os.O_RDONLY),
    "a path": ("v0/a.txt", os.O_PATH),
    "a path of a directory": ("v0/d", os.O_PATH),
    "a path of a link": ("latest", os.O_PATH | os.O_NOFOLLOW),
}
_AGAIN = ("O_RDONLY", "O_WRONLY", "O_RDWR", "O_RDONLY|O_TRUNC", "O_DIRECTORY", "O_NOFOLLOW", "O_PATH", "O_CREAT|O_EXCL")
_NO_XDEV, _NO_MAGICLINKS, _NO_SYMLINKS, _BENEATH, _IN_ROOT = 1, 2, 4, 8, 16
_RESOLVED = {
    "beneath": ("v0/d/x", _BENEATH),
    "beneath, up": ("v0/../v0/a.txt", _BENEATH),
    "beneath, above": ("../x", _BENEATH),
    "beneath, absolute": ("/v0/a.txt", _BENEATH),
    "in root": ("v0/d/x", _IN_ROOT),
    "in root, absolute": ("/v0/a.txt", _IN_ROOT),
    "in root, above": ("../../v0/a.txt", _IN_ROOT),
    "no links, without one": ("v0/a.txt", _NO_SYMLINKS),
    "no links, with one": ("latest/a.txt", _NO_SYMLINKS),
    "no links at the end": ("latest", _NO_SYMLINKS),
    "no magic links": ("latest/a.txt", _NO_MAGICLINKS),
    "no other file system": ("v0/d/e/f/deep.txt", _NO_XDEV),
    "an unknown way": ("v0/a.txt", 1 << 20),
}

SUBJECTS = {
    "opening": [
        Row(f"open {what} {flag}", "open", (path, flags))
        for what, path in _TARGETS.items()
        for flag, flags in _FLAGS.items()
    ],
    "opening at a descriptor": [
        Row("openat a directory", "openat", (Opened("v0"), "a.txt", os.O_RDONLY)),
        Row("openat a path", "openat", (Opened("v0", os.O_PATH), "a.txt", os.O_RDONLY)),
        Row("openat a file", "openat", (Opened("v0/a.txt"), "a.txt", os.O_RDONLY)),
        Row("openat a file, above", "openat", (Opened("v0/a.txt"), "..", os.O_RDONLY)),
        Row("openat no descriptor", "openat", (-1, "a.txt", os.O_RDONLY)),
        Row("openat a closed descriptor", "openat", (999, "a.txt", os.O_RDONLY)),
        Row("openat no descriptor, absolute", "openat", (-1, "/", os.O_RDONLY)),
        Row("openat an empty path", "openat", (Opened("v0"), "", os.O_RDONLY)),
        Row("openat above", "openat", (Opened("v0/d"), "../a.txt", os.O_RDONLY)),
        Row("openat to create", "openat", (Opened("v0"), "new", os.O_WRONLY | os.O_CREAT)),
        Row("openat a path to create", "openat", (Opened("v0", os.O_PATH), "new", os.O_WRONLY | os.O_CREAT)),
        Row("openat without a name", "openat", (Opened("v0"), ".", os.O_TMPFILE | os.O_RDWR)),
        Row("openat by AT_FDCWD in a directory", "openat", (_FDCWD, "x", os.O_RDONLY), "in v0/d"),
        *(
            Row(f"openat2 {what}", "openat2", (_FDCWD, path, os.O_RDONLY, 0, resolve))
            for what, (path, resolve) in _RESOLVED.items()
        ),
        Row("openat2 a mode without O_CREAT", "openat2", (_FDCWD, "v0/a.txt", os.O_RDONLY, 0o600, 0)),
        Row("openat2 unknown flags", "openat2", (_FDCWD, "v0/a.txt", 1 << 40, 0, 0)),
        Row("openat2 O_TMPFILE", "openat2", (_FDCWD, "v0", os.O_TMPFILE | os.O_RDWR, 0o600, _BENEATH)),
    ],
    "opening in other ways": [
        Row("creat a file", "creat", ("v0/a.txt",)),
        Row("creat a missing name", "creat", ("v0/missing",)),
        Row("creat a directory", "creat", ("v0/d",)),
        Row("creat a link", "creat", ("latest",)),
        Row("open with a umask", "open", ("v0/new", os.O_CREAT | os.O_WRONLY), "umask 777"),
        Row("open the longest name", "open", (f"v0/{LONGEST}", os.O_RDONLY)),
        Row("open many times", "open_many", ("v0/small.bin", 300)),
        Row("open many times, passed through", "open_many", ("v0/large.bin", 300)),
        Row("open more than is allowed", "open_many", ("v0/a.txt", 100), "files 60"),
        *(
            Row(f"reopen {what} {flag}", "reopen", (path, flags, _FLAGS[flag]))
            for what, (path, flags) in _REOPENED.items()
            for flag in _AGAIN
        ),
        *(
            Row(f"through a link outside, {what} {flag}", "linked_outside", (path, Outside(), _FLAGS[flag]))
            for what, path in {**_TARGETS, "itself": "link"}.items()
            if what in ("a file", "a directory", "a missing name", "itself", "a link")
            for flag in ("O_PATH", "O_NOFOLLOW")
        ),
    ],
}
