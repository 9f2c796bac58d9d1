"""File: references to files of this machine, `file:///directory/name`.

wandb writes such a URI as the path is and reads it percent-decoded. Here only what would be read as something else is
encoded, and what is there under the undecoded path is found too, so that both programs' URIs lead back to their files.
A `?` or `#` is a character of the path.
"""

from __future__ import annotations

import functools
import os
import re
import stat
from collections.abc import Iterator
from urllib.parse import unquote_to_bytes

from ..copying import copy_and_hash
from ..digest import DigestAlgorithm, written
from ..errors import InvalidError, MissingReferenceError, SourceError, SourceMissingError
from ..manifest import Entry
from ..names import normalise_entry_path, shown
from ..reading.reader import LocalBlob, OpenBlob
from ..sources import SourceFile, check_unchanged, kind_of, open_source, source_error, walk
from .handler import Tell, digest_algorithm, extra_of, uri_digest

SCHEME = "file"

# What a reader of URIs, wandb's or another, would not take as it stands.
_ENCODED = re.compile("[?#\x00-\x1f\x7f-\x9f\ud800-\udfff]|%(?=[0-9A-Fa-f]{2})")


def uri_of(path: str) -> str:
    """The URI of an absolute path."""
    return f"{SCHEME}://" + _ENCODED.sub(lambda match: "".join(f"%{byte:02X}" for byte in os.fsencode(match[0])), path)


def path_of(uri: str) -> str:
    """The path that a URI means: of several that it may mean, the one that exists. Raises InvalidError.

    Made absolute where it is not.
    """
    decoded, *others = _meanings(uri)
    return next((path for path in (decoded, *others) if os.path.lexists(path)), decoded)


def _meanings(uri: str) -> Iterator[str]:
    rest = uri.partition(":")[2]
    if rest.startswith("//"):
        host, slash, below = rest[2:].partition("/")
        if host.lower() not in ("", "localhost"):
            raise InvalidError(f"reference {shown(uri)} names the host {shown(host)}; write file:///absolute/path")
        rest = slash + below
    if not rest or "\0" in rest or "%00" in rest:
        raise InvalidError(f"reference {shown(uri)} has no path; write file:///absolute/path")
    for path in dict.fromkeys((os.fsdecode(unquote_to_bytes(os.fsencode(rest))), rest)):
        yield os.path.join(os.getcwd(), path)


class FileHandler:
    """References to files of this machine; a Handler."""

    def add(
        self,
        uri: str,
        name: str | None,
        *,
        checksum: bool,
        max_objects: int,
        algorithm: DigestAlgorithm,
        tell: Tell | None = None,
    ) -> list[Entry]:
        """An entry for the file, or for each file below the directory; links are followed. See Handler.add.

        Raises SourceMissingError, SourceError, NotAllowedError, SourceChangedError, InvalidPathError.
        """
        path = path_of(uri)
        # What was given is kept where it leads to the file without guessing.
        base = uri if next(_meanings(uri)) == path and uri.partition(":")[2].startswith("/") else uri_of(path)
        try:
            status = os.stat(path)
        except OSError as error:
            raise source_error(error, path) from None
        is_directory = stat.S_ISDIR(status.st_mode)
        if not is_directory and not stat.S_ISREG(status.st_mode):
            raise SourceError(
                f"{shown(path)} is {kind_of(status.st_mode)}; only files and directories can be referred to"
            )
        if checksum and is_directory:
            return _directory(path, base.rstrip("/"), name, max_objects, algorithm, tell)
        entry_path = normalise_entry_path(name or os.path.basename(path.rstrip("/")))
        if checksum:
            return [_checked(SourceFile(entry_path, path, None, True), path, base, entry_path, algorithm, tell)]
        if tell is not None:
            tell(1, 0)
        return [
            Entry(
                entry_path,
                uri_digest(algorithm, base),
                ref=base,
                size=None if is_directory else status.st_size,
                extra=extra_of(algorithm),
                executable=not is_directory and bool(status.st_mode & 0o111),
            )
        ]

    def opens(self, entry: Entry) -> bool:
        """Whether it does not refer to a whole directory."""
        try:
            return entry.size is not None or not os.path.isdir(path_of(entry.ref or ""))
        except InvalidError:
            return True  # opening it says what is wrong

    def open(self, entry: Entry) -> OpenBlob:
        """The file, of the size that the entry says when that is promised. Raises MissingReferenceError,
        NotAllowedError."""
        try:
            path = path_of(entry.ref or "")
            descriptor, status = open_source(path, follow=True)
        except SourceMissingError:
            raise MissingReferenceError(
                f"{shown(entry.path)} refers to {shown(entry.ref)}, which is not there any more"
            ) from None
        except (SourceError, InvalidError) as error:
            raise MissingReferenceError(f"{shown(entry.path)} refers to {shown(entry.ref)}; {error}") from None
        if status.st_size != entry.size and self.algorithm(entry) is not None:
            os.close(descriptor)
            raise changed(entry)
        return LocalBlob(path, status.st_size, descriptor)

    def algorithm(self, entry: Entry) -> DigestAlgorithm | None:
        """See Handler.algorithm. What wandb writes without a checksum, digests of the size or the path, promises
        nothing either."""
        algorithm = digest_algorithm(entry)
        if algorithm is not DigestAlgorithm.MD5:
            return algorithm
        try:
            own = (str(entry.size), uri_of(os.path.realpath(path_of(entry.ref or ""))))
        except InvalidError:
            return algorithm
        return None if entry.digest in [uri_digest(algorithm, text) for text in own] else algorithm


def changed(entry: Entry) -> MissingReferenceError:
    """The error for bytes that are not those that a reference promised."""
    return MissingReferenceError(
        f"{shown(entry.path)} refers to {shown(entry.ref)}, which has changed since; log it again"
    )


def _directory(
    root: str, base: str, name: str | None, max_objects: int, algorithm: DigestAlgorithm, tell: Tell | None
) -> list[Entry]:
    prefix = normalise_entry_path(name) + "/" if name else ""
    entries: list[Entry] = []
    for found in walk(root, "follow"):
        if len(entries) == max_objects:
            raise InvalidError(
                f"{shown(root)} holds more than {max_objects} files; raise max_objects, or refer to less"
            )
        path = normalise_entry_path(prefix + found.path) if prefix else found.path
        ref = base + uri_of("/" + found.path).removeprefix(f"{SCHEME}://")
        entries.append(_checked(found, os.path.join(root, found.path), ref, path, algorithm, tell))
    return entries


def _checked(
    found: SourceFile, shown_as: str, ref: str, path: str, algorithm: DigestAlgorithm, tell: Tell | None
) -> Entry:
    """An entry with the digest of a file's bytes."""
    descriptor, status = open_source(found.name, directory=found.directory, follow=found.follow, shown_as=shown_as)
    try:
        on_bytes = None if tell is None else functools.partial(tell, 0)
        hashed = copy_and_hash(descriptor, None, status.st_size, algorithm, blocks=False, on_bytes=on_bytes)
        check_unchanged(status, descriptor, hashed.size, shown_as)
    except OSError as error:
        raise source_error(error, shown_as) from None
    finally:
        os.close(descriptor)
    if tell is not None:
        tell(1, 0)
    return Entry(
        path,
        written(algorithm, hashed.shown),
        ref=ref,
        size=hashed.size,
        extra=extra_of(algorithm),
        executable=bool(status.st_mode & 0o111),
    )
