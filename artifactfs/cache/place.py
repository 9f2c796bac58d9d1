"""Place: the private directory that the cache lives in, and how files in it are opened.

Owns the checks: the directory is this user's and nobody else's, is no link, and lies on a disk of this machine. Files
are opened below its descriptor and must be regular files of this user: whatever else was put there is not touched.
"""

from __future__ import annotations

import errno
import os
import stat
import time

from ..errors import DamageError, Error, NoSpaceError, NotAllowedError, StoreError
from ..mounttable import mount_table
from ..names import shown

# Where another machine may have the file open too: locks and page caches do not reach there.
_SHARED = frozenset({"afs", "beegfs", "ceph", "cifs", "gpfs", "lustre", "ncpfs", "nfs", "nfs4", "smb3"})
_NO_FILE = frozenset({errno.ELOOP, errno.EISDIR, errno.ENOTDIR, errno.ENXIO})
_LOOK_AGAIN = 5.0
_ADVICE = "name another one with ARTIFACTFS_CACHE_DIR"


class Place:
    """The directory `path`, opened and made when it is first needed."""

    def __init__(self, path: str) -> None:
        self.path = os.path.abspath(path)
        self._root = -1
        self._refusal: Error | None = None
        self._refused_until = 0.0

    def root(self) -> int:
        """Its descriptor, valid until `close`.

        Raises NotAllowedError where it is somebody else's, NoSpaceError, and StoreError where it cannot be used for
        another reason.
        """
        if self._root < 0:
            now = time.monotonic()
            if self._refusal is not None and now < self._refused_until:
                raise self._refusal
            try:
                self._root = self._opened()
            except Error as error:
                self._refusal, self._refused_until = error, now + _LOOK_AGAIN
                raise
        return self._root

    def open_again(self) -> None:
        """Open the directory that is there now. The former stays open: another thread may be using it."""
        self._root = self._opened()

    def is_there(self) -> bool:
        """Whether the directory is the one that is open, and was not removed or replaced meanwhile."""
        try:
            return os.path.samestat(os.fstat(self.root()), os.stat(self.path, follow_symlinks=False))
        except OSError:
            return False

    def file(self, name: str, flags: int) -> int:
        """The descriptor of the file at that relative path; with O_CREAT its folder is made too.

        Raises OSError, and DamageError where a regular file of this user is not what is there.
        """
        root = self.root()
        # A FIFO in its place would hold up an open for ever without O_NONBLOCK.
        flags |= os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        try:
            try:
                descriptor = os.open(name, flags, 0o600, dir_fd=root)
            except FileNotFoundError:
                folder = os.path.dirname(name)
                if not flags & os.O_CREAT or not folder:
                    raise
                try:
                    os.mkdir(folder, 0o700, dir_fd=root)
                except FileExistsError:
                    pass
                descriptor = os.open(name, flags, 0o600, dir_fd=root)
        except OSError as error:
            if error.errno in _NO_FILE:
                raise self._foreign(name) from None
            raise
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid():
            os.close(descriptor)
            raise self._foreign(name)
        return descriptor

    def unlink(self, name: str) -> None:
        """Remove a file, if it is there; a directory in its place stays."""
        try:
            os.unlink(name, dir_fd=self.root())
        except OSError:
            pass

    def listed(self, folder: str) -> list[str]:
        """The names in a folder; none where there is no such folder."""
        try:
            descriptor = os.open(
                folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self.root()
            )
        except OSError:
            return []
        try:
            return os.listdir(descriptor)
        finally:
            os.close(descriptor)

    def free_bytes(self) -> int:
        """What the user can still write to the disk. Raises OSError."""
        status = os.fstatvfs(self.root())
        return status.f_bavail * status.f_frsize

    def disk_bytes(self) -> int:
        """The size of the disk. Raises OSError."""
        status = os.fstatvfs(self.root())
        return status.f_blocks * status.f_frsize

    def error(self, error: OSError) -> Error:
        """The error of ours that one of the system's is."""
        return _place_error(error, f"the cache directory {shown(self.path)}")

    def close(self) -> None:
        """Close the directory."""
        root, self._root = self._root, -1
        if root >= 0:
            os.close(root)

    def _foreign(self, name: str) -> DamageError:
        return DamageError(f"{os.path.join(self.path, name)} is no file of the cache; remove it")

    def _opened(self) -> int:
        where = f"the cache directory {shown(self.path)}"
        try:
            os.makedirs(self.path, mode=0o700, exist_ok=True)
            root = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except (FileExistsError, NotADirectoryError):
            raise StoreError(f"{where} is no directory; {_ADVICE}") from None
        except OSError as error:
            raise _place_error(error, where) from None
        try:
            status = os.fstat(root)
            if status.st_uid != os.geteuid():
                raise NotAllowedError(f"{where} belongs to another user (uid {status.st_uid}); {_ADVICE}")
            if status.st_mode & 0o077:
                os.fchmod(root, 0o700)
            kind = _file_system(status.st_dev)
            if kind in _SHARED:
                raise StoreError(f"{where} is on {kind}, which other machines write to as well; {_ADVICE}")
        except OSError as error:
            os.close(root)
            raise _place_error(error, where) from None
        except Error:
            os.close(root)
            raise
        return root


def _place_error(error: OSError, where: str) -> Error:
    if isinstance(error, Error):
        return error
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return NoSpaceError(f"there is no space for {where}; free some, or {_ADVICE}")
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return NotAllowedError(f"{where} cannot be written to ({error.strerror}); {_ADVICE}")
    return StoreError(f"{where} cannot be used ({error.strerror}); {_ADVICE}")


def _file_system(device: int) -> str | None:
    """The type of the file system on a device, or None where nobody says."""
    wanted = f"{os.major(device)}:{os.minor(device)}"
    try:
        return next((row.type for row in mount_table() if row.device == wanted), None)
    except OSError:
        return None
