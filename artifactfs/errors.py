"""Every error that artifactfs raises, as one tree.

    Error
    ├── InvalidError (ValueError)                 the caller's words break a rule
    │   ├── InvalidNameError                      a name, alias or reference to a version
    │   ├── InvalidPathError                      an entry path
    │   ├── InvalidMetadataError (TypeError)
    │   ├── InvalidManifestError                  stored or received manifest bytes
    │   └── InvalidConfigError                    a configuration file or variable
    ├── SourceError (ValueError)                  a user's file cannot be taken in
    │   ├── SourceChangedError                    it changed while it was being logged
    │   └── SourceMissingError (FileNotFoundError)
    ├── CommError                                 what a store answers (wandb's name for both of these)
    │   ├── NotFoundError (ValueError)            no such thing in the store
    │   │   ├── EntryNotFoundError (KeyError)     no such path in a version
    │   │   ├── PathNotFoundError (FileNotFoundError)       no such path in a draft or directory
    │   │   ├── MissingReferenceError (FileNotFoundError)   what an entry refers to is gone
    │   │   └── MountNotFoundError
    │   └── StoreError (RuntimeError)             the store cannot be used as asked
    │       ├── NotAStoreError
    │       ├── SchemaError                       written by a newer program
    │       ├── UnavailableError                  busy or out of reach; trying again may help
    │       ├── SessionLostError                  the log session's lease ran out; log again
    │       └── NoSpaceError
    ├── ConflictError (ValueError)                the store or draft already holds something else
    │   ├── PathConflictError                     a path added twice, or both file and directory
    │   ├── TypeConflictError                     a collection has another type
    │   ├── AliasConflictError                    aliases are in the way
    │   ├── BaseMovedError                        another version became latest under an incremental one
    │   └── MountConflictError                    the mountpoint is taken, not empty or busy
    ├── ArtifactStatusError (AttributeError)      not in this state of an artifact
    │   ├── ArtifactNotLoggedError
    │   └── ArtifactFinalizedError
    ├── DamageError (ValueError)                  bytes and digest differ
    │   ├── MissingBlobError                      bytes that a manifest names are not there
    │   └── VerificationError                     a directory differs from its manifest
    ├── NotAllowedError (PermissionError)
    │   └── ReadOnlyStoreError
    ├── MountError (RuntimeError)                 the mount could not be made or taken down
    │   └── TransportError                        the kernel, or this machine, does not have this way of mounting
    └── WaitTimeoutError (TimeoutError)

A message is one line: what is wrong; what to do. Foreign exceptions do not cross a module's boundary: whoever
calls the library that raises them turns them into one of these. The edges (CLI exit code, errno, HTTP status)
map this tree exhaustively, each in its own module.
"""

from __future__ import annotations

from collections.abc import Iterable


class Error(Exception):
    """The root of all errors of artifactfs."""

    def __str__(self) -> str:
        # KeyError shows the repr of its argument, OSError a pair: one line of text is wanted from all of them.
        return str(self.args[0]) if self.args else type(self).__name__


class InvalidError(Error, ValueError):
    """The caller's words break a rule."""


class InvalidNameError(InvalidError):
    """A name, alias or reference to a version breaks the rule of its kind."""


class InvalidPathError(InvalidError):
    """An entry path breaks the rule for paths."""


class InvalidMetadataError(InvalidError, TypeError):
    """Metadata is not a JSON object, or too large."""


class InvalidManifestError(InvalidError):
    """Manifest bytes are not a manifest of a known version."""


class InvalidConfigError(InvalidError):
    """A configuration file or environment variable has a value that means nothing."""


class SourceError(Error, ValueError):
    """A user's file cannot be taken into an artifact."""


class SourceChangedError(SourceError):
    """A user's file changed while it was being logged."""


class SourceMissingError(SourceError, FileNotFoundError):
    """A user's file is not there (any more)."""


class CommError(Error):
    """What was asked of a store could not be had; named as in wandb, where code catches it."""


class NotFoundError(CommError, ValueError):
    """No such entity, project, collection, version, alias or run."""


class EntryNotFoundError(NotFoundError, KeyError):
    """A version has no entry of that path."""


class PathNotFoundError(NotFoundError, FileNotFoundError):
    """A draft or directory has no such path."""


class MissingReferenceError(NotFoundError, FileNotFoundError):
    """What an entry refers to is not there any more, or not what it was."""


class MountNotFoundError(NotFoundError):
    """Nothing of ours is mounted there."""


class ConflictError(Error, ValueError):
    """The store or the draft already holds something else under that name."""


class PathConflictError(ConflictError):
    """A path was added twice with different bytes, or is both a file and a directory."""


class TypeConflictError(ConflictError):
    """The collection holds artifacts of another type."""


class AliasConflictError(ConflictError):
    """Aliases stand in the way of a deletion."""


class BaseMovedError(ConflictError):
    """Another version became `latest` while an incremental one was being made."""


class MountConflictError(ConflictError):
    """The mountpoint is taken, not empty, or busy."""


class ArtifactStatusError(Error, AttributeError):
    """The artifact is not in the state that the call needs."""


class ArtifactNotLoggedError(ArtifactStatusError):
    """The artifact is a draft; the call needs a logged version."""


class ArtifactFinalizedError(ArtifactStatusError):
    """The artifact is finalized; its contents can no longer change."""


class DamageError(Error, ValueError):
    """Stored bytes differ from what their digest promises."""


class MissingBlobError(DamageError):
    """Bytes that a manifest names are not in the store."""


class VerificationError(DamageError):
    """A directory, or what the store holds, differs from the manifest it was checked against."""

    def __init__(self, *args: object, faults: Iterable[tuple[str, str]] = ()) -> None:
        super().__init__(*args)
        self.faults = sorted(faults, key=lambda fault: fault[1])
        """(kind, path) of each, sorted by path; the kind is `changed`, `missing`, `extra` or `damaged`."""


class StoreError(CommError, RuntimeError):
    """The store cannot be used as asked."""


class NotAStoreError(StoreError):
    """There is no store at that place."""


class SchemaError(StoreError):
    """The store was written by a newer artifactfs."""


class UnavailableError(StoreError):
    """The store is busy or out of reach; trying again may help."""


class SessionLostError(StoreError):
    """The log session's lease ran out and its pins are gone; log again."""


class NoSpaceError(StoreError):
    """The disk is full or a quota is used up."""


class NotAllowedError(Error, PermissionError):
    """The user may not do that."""


class ReadOnlyStoreError(NotAllowedError):
    """The store or its file system is read-only."""


class MountError(Error, RuntimeError):
    """The mount could not be made or taken down."""


class TransportError(MountError):
    """The kernel, or what is installed here, does not have this way of mounting."""


class WaitTimeoutError(Error, TimeoutError):
    """Time ran out while waiting for an artifact to be logged."""
