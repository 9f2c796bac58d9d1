"""Rows of the conformance table: names, paths and links."""

from __future__ import annotations

import os

from conformance import LONGEST, Opened, Row

_FDCWD = -100
_PATHS = {
    "nothing": "",
    "the top": ".",
    "the top, twice": "./.",
    "above and back": "v0/../v0/a.txt",
    "above the top and back": "v0/d/../../v1/a.txt",
    "slashes": "v0///d//x",
    "dots": "v0/./d/././x",
    "a file with a slash": "v0/a.txt/",
    "a file and a dot": "v0/a.txt/.",
    "a file and above": "v0/a.txt/..",
    "a missing name": "v0/missing",
    "a missing name and above": "v0/missing/..",
    "a directory with a slash": "v0/d/",
    "a link": "latest",
    "a link with a slash": "latest/",
    "a link and a dot": "latest/.",
    "a link and above": "latest/../v0/a.txt",
    "another case": "V0/A.TXT",
    "a name with a space": "v0/with space",
    "a name in another script": "v0/日本.txt",
    "that name, decomposed": "v0/日本.txt\u0301",
    "a name that is not UTF-8": "v0/\udcff\udcfe",
    "half a character": "v0/\udce6\udc97",
    "a newline": "v0/a\n.txt",
    "a backslash": "v0/d\\x",
    "a leading dash": "v0/-",
    "a number": "v0/000",
    "a version that is not there": "v2",
    "a version with zeros": "v00",
    "an alias that is not there": "later",
    "dots in a name": "v0/...",
    "the longest name": f"v0/{LONGEST}",
    "a longest name that is not there": "v0/" + "m" * 255,
    "a name that is too long": "v0/" + "n" * 256,
    "a name that is much too long": "v0/" + "n" * 4000,
    "a name that is too long, below": f"v0/{'n' * 256}/x",
    "a name that is too long, below a file": f"v0/a.txt/{'n' * 256}",
    "a name of the longest in bytes": "v0/" + "é" * 127,
    "a name that is too long in bytes": "v0/" + "é" * 128,
    "the longest path": "./" * 2043 + "v0/a.txt",
    "a path that is too long": "./" * 2044 + "v0/a.txt",
    "a path that is much too long": "./" * 5000 + "v0",
    "forty links": "latest/../" * 40 + "v0/a.txt",
    "forty-one links": "latest/../" * 41 + "v0/a.txt",
    "a name that ends early": "v0/a.tx",
    "a name that goes on": "v0/a.txt2",
    "deep": "v0/d/e/f/deep.txt",
    "deep, missing": "v0/d/e/g/deep.txt",
    "the hidden directory": "v0/.artifactfs",
    "the hidden directory elsewhere": "v0/d/.artifactfs",
}
_LINKS = {
    "a link": "latest",
    "another link": "prod",
    "a file": "v0/a.txt",
    "a directory": "v0",
    "the top": ".",
    "a missing name": "missing",
    "a link with a slash": "latest/",
    "below a link": "latest/a.txt",
    "nothing": "",
}

SUBJECTS = {
    "paths": [
        *(Row(f"stat {what}", "stat", (path,)) for what, path in _PATHS.items()),
        *(Row(f"lstat {what}", "lstat", (path,)) for what, path in _PATHS.items()),
        *(Row(f"O_PATH {what}", "open", (path, os.O_PATH)) for what, path in _PATHS.items()),
        *(
            Row(f"in a directory, stat {path}", "stat", (path,), "in v0/d")
            for path in ("x", "..", "../a.txt", "e/f/..")
        ),
        Row("two names of a file", "same_file", ("v0/a.txt", "prod/a.txt")),
        Row("two files", "same_file", ("v0/a.txt", "v1/a.txt")),
        Row("above is where it came from", "same_file", ("v0/d/..", "v0")),
        Row("above, twice", "same_file", ("v0/d/e/..", "v0/d")),
        Row("above a link", "same_file", ("latest/..", ".")),
    ],
    "links": [
        *(Row(f"readlink {what}", "readlink", (path,)) for what, path in _LINKS.items()),
        *(Row(f"readlink into {size}", "readlink", ("latest", size)) for size in (0, 1, 2, 3)),
        *(Row(f"readlink a file into {size}", "readlink", ("v0/a.txt", size)) for size in (0, 1)),
        Row("readlinkat a directory", "readlinkat", (Opened("."), "latest", 10)),
        Row("readlinkat a path", "readlinkat", (Opened("latest", os.O_PATH | os.O_NOFOLLOW), "", 10)),
        Row("readlinkat a path of a file", "readlinkat", (Opened("v0/a.txt", os.O_PATH), "", 10)),
        Row("readlinkat no descriptor", "readlinkat", (-1, "latest", 10)),
        Row("readlinkat a file", "readlinkat", (Opened("v0/a.txt"), "latest", 10)),
        Row("realpath of a link", "realpath", ("latest",)),
        Row("realpath below a link", "realpath", ("prod/d/../d/x",)),
    ],
    "places": [
        *(
            Row(f"chdir {what}", "chdir", (path,))
            for what, path in {
                "a directory": "v0/d",
                "a link": "latest",
                "a file": "v0/a.txt",
                "a missing name": "missing",
                "deep": "v0/d/e/f",
                "deep and back": "v0/d/e/f/../..",
                "nothing": "",
                "the top": ".",
            }.items()
        ),
        Row("fchdir a directory", "fchdir", (Opened("v0/d"),)),
        Row("fchdir a path", "fchdir", (Opened("v0/d", os.O_PATH),)),
        Row("fchdir a file", "fchdir", (Opened("v0/a.txt"),)),
        Row("fchdir no descriptor", "fchdir", (-1,)),
        Row("chroot a directory", "chroot", ("v0",)),
        Row("chroot a link", "chroot", ("prod",)),
        Row("chroot a file", "chroot", ("v0/a.txt",)),
        Row("chroot a missing name", "chroot", ("missing",)),
    ],
}
