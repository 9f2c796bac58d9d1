"""File: one file of a logged version, as `Artifact.files` lists them."""

from __future__ import annotations

import mimetypes
import os
from typing import IO, Any

from .errors import PathConflictError
from .manifest import Entry
from .names import shown


class File:
    """A file of a version: `name` (its path), `size` in bytes (0 when unknown), `digest`, `mimetype`, `updated_at`."""

    def __init__(self, entry: Entry, updated_at: str) -> None:
        self._entry = entry
        self.name = entry.path
        self.size = entry.size or 0
        self.digest = entry.digest
        self.md5 = entry.digest  # wandb's name
        self.mimetype = mimetypes.guess_type(entry.path)[0] or "application/octet-stream"
        self.updated_at = updated_at
        self.url = entry.ref if entry.ref is not None else None

    def __repr__(self) -> str:
        return f"<File {self.name} ({self.mimetype}) {self.size} bytes>"

    def download(
        self, root: str | os.PathLike[str] = ".", replace: bool = False, exist_ok: bool = False, api: Any = None
    ) -> IO[str]:
        """Write the file below `root` and return it, open for reading.

        A file that is there already is PathConflictError (a ValueError), unless `replace`, or `exist_ok`, which leaves
        it as it is. `api` has no meaning here. Raises as Artifact.download.
        """
        del api
        path = os.path.join(os.fspath(root), self.name)
        if os.path.lexists(path) and not replace:
            if not exist_ok:
                raise PathConflictError(f"{shown(path)} is there already; use replace=True or exist_ok=True")
        else:
            path = self._entry.download(os.fspath(root))
        return open(path)
