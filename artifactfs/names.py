"""Names: the one validator of each kind, and the form `[[entity/]project/]collection[:alias|vN]`.

Owns every rule of what may be called what. Knows nothing of stores or files. Rules are those of the design,
section 3; each refusal says the rule in its message.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from .errors import InvalidNameError, InvalidPathError

LATEST = "latest"
HIDDEN = ".artifactfs"
"""The name that the mount keeps for itself at the top of every version."""

MAX_COMPONENT_BYTES = 255
MAX_PATH_BYTES = 4096
MAX_ALIAS = 128

_NAME = re.compile(r"[A-Za-z0-9_.-]{1,128}\Z")
_VERSION = re.compile(r"v(0|[1-9][0-9]{0,17})\Z")
_VERSION_LIKE = re.compile(r"v[0-9]+\Z")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
# `C:/x` and the drive-relative `c:x` of Windows. Drives A and B are gone, and `a:b` is a fair name elsewhere.
_DRIVE = re.compile(r"[A-Za-z]:(/|\Z)|[C-Zc-z]:")
# A path of ordinary ASCII needs no further look but for its length; anything else takes the slow way and its messages.
_PLAIN_PATH = re.compile(
    r"(?!\.artifactfs(?:/|\Z))(?:(?!\.{1,2}(?:/|\Z))[A-Za-z0-9_ .,=@%+~#()-]{1,255}(?:/(?=[^/])|\Z))+\Z"
)


def check_name(kind: str, value: str) -> str:
    """Return `value` if it may name an entity, project, type or collection (`kind` is for the message).

    Raises InvalidNameError.
    """
    if not isinstance(value, str):
        raise InvalidNameError(f"{kind} name must be a string, not {type(value).__name__}")
    if not _NAME.match(value) or value in (".", ".."):
        raise InvalidNameError(
            f"{kind} name {shown(value)} is not allowed; "
            "use 1 to 128 of the characters A-Z a-z 0-9 _ . - (not '.' or '..')"
        )
    return value


def check_type(value: str) -> str:
    """Return `value` if artifacts may have that type: a name, but not `job` or `wandb-*`. Raises InvalidNameError."""
    check_name("type", value)
    if value == "job" or value.startswith("wandb-"):
        raise InvalidNameError(f"type {shown(value)} is reserved; choose another")
    return value


def check_alias(value: str) -> str:
    """Return `value` if it may be an alias. Raises InvalidNameError."""
    if not isinstance(value, str):
        raise InvalidNameError(f"alias must be a string, not {type(value).__name__}")
    reason = None
    if not 1 <= len(value) <= MAX_ALIAS or len(value.encode("utf-8", "surrogatepass")) > MAX_COMPONENT_BYTES:
        reason = f"use 1 to {MAX_ALIAS} characters, at most {MAX_COMPONENT_BYTES} bytes"
    elif "/" in value or ":" in value or _CONTROL.search(value):
        reason = "'/', ':' and control characters may not be in it"
    elif value in (".", ".."):
        reason = "it would be a directory of its own"
    elif _VERSION_LIKE.match(value):
        reason = "v and digits are the name of a version"
    elif not _is_utf8(value):
        reason = "it is not valid UTF-8"
    if reason:
        raise InvalidNameError(f"alias {shown(value)} is not allowed; {reason}")
    return value


def version_number(text: str) -> int | None:
    """`v12` -> 12; None for what is not the name of a version."""
    match = _VERSION.match(text)
    return int(match[1]) if match else None


class VersionName(NamedTuple):
    """A parsed `[[entity/]project/]collection[:alias|vN]`; what was not written is None."""

    entity: str | None
    project: str | None
    collection: str
    version: str | None

    @property
    def number(self) -> int | None:
        """The version's number when it was asked for by number."""
        return version_number(self.version) if self.version is not None else None

    def within(self, entity: str, project: str) -> VersionName:
        """The same with the missing namespaces filled in, and `latest` where no version was named."""
        return VersionName(
            self.entity if self.entity is not None else entity,
            self.project if self.project is not None else project,
            self.collection,
            self.version if self.version is not None else LATEST,
        )

    def __str__(self) -> str:
        path = "/".join(part for part in (self.entity, self.project, self.collection) if part is not None)
        return path if self.version is None else f"{path}:{self.version}"


def parse_version_name(text: str) -> VersionName:
    """Parse a reference to a version or collection. Raises InvalidNameError."""
    if not isinstance(text, str):
        raise InvalidNameError(f"artifact name must be a string, not {type(text).__name__}")
    path, colon, version = text.partition(":")
    parts = path.split("/")
    if len(parts) > 3:
        raise InvalidNameError(
            f"artifact name {shown(text)} has too many parts; use [[entity/]project/]collection[:alias]"
        )
    kinds = ("entity", "project", "collection")[3 - len(parts) :]
    for kind, part in zip(kinds, parts, strict=True):
        check_name(kind, part)
    if colon and version_number(version) is None:
        check_alias(version)
    padded: list[str | None] = [None] * (3 - len(parts)) + [*parts]
    return VersionName(padded[0], padded[1], parts[-1], version if colon else None)


def check_entry_path(path: str) -> str:
    """Return `path` if it is the canonical path of an entry. Raises InvalidPathError.

    This is the rule for manifests, servers and mounts, which accept the normalised form only.
    """
    if isinstance(path, str) and len(path) <= MAX_COMPONENT_BYTES and _PLAIN_PATH.match(path):
        return path
    reason = _path_fault(path)
    if reason:
        raise InvalidPathError(f"path {shown(path)} is not allowed; {reason}")
    return path


def normalise_entry_path(path: str) -> str:
    """The canonical form of a path given by a user: `a//b/./c` becomes `a/b/c`. Raises InvalidPathError."""
    if not isinstance(path, str):
        raise InvalidPathError(f"path must be a string, not {type(path).__name__}")
    if path.startswith("/"):
        raise InvalidPathError(f"path {shown(path)} is not allowed; it must be relative")
    if "//" in path or path.endswith("/") or path.startswith("./") or "/." in path:
        path = "/".join(part for part in path.split("/") if part not in ("", ".")) or path
    return check_entry_path(path)


def shown(value: object) -> str:
    """`value` for a message: one line, no control characters, not endless."""
    text = repr(value)
    if not text.isprintable():  # that of a string is, other classes' need not be
        text = ascii(text)
    return text if len(text) <= 120 else f"{text[:80]}...{text[-20:]}"


def _path_fault(path: str) -> str | None:
    if not isinstance(path, str):
        return f"it must be a string, not {type(path).__name__}"
    if not path:
        return "it is empty"
    if not _is_utf8(path):
        return "it is not valid UTF-8"
    if len(path.encode()) > MAX_PATH_BYTES:
        return f"it is longer than {MAX_PATH_BYTES} bytes"
    if _CONTROL.search(path):
        return "it has a control character"
    if "\\" in path:
        return "it has a backslash"
    if path.startswith("/") or _DRIVE.match(path):
        return "it must be relative, and a drive letter is not"
    for part in path.split("/"):
        if part in ("", ".", ".."):
            return f"it has the component {part!r}"
        if len(part.encode()) > MAX_COMPONENT_BYTES:
            return f"a component is longer than {MAX_COMPONENT_BYTES} bytes"
    if path == HIDDEN or path.startswith(HIDDEN + "/"):
        return f"{HIDDEN} at the top belongs to the mount"
    return None


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
