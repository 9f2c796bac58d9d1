"""A mount by libfuse behaves as a read-only local file system does, but for what libfuse 2 cannot."""

from __future__ import annotations

import pytest
from conformance import ORDINARY, Table
from conformance_differences import differing
from conftest import Mounting

from artifactfs.errors import TransportError
from artifactfs.mount import libfuse

BIRTHLESS = "2047"
"""libfuse 2 has no birth time: statx tells all but that."""
NO_IOCTL = "ENOTTY"
"""libfuse 2 does not tell how large an ioctl's answer may be, so the adapter gives none."""

BY_LIBFUSE = {
    "the fields of statx, a file": BIRTHLESS,
    "the fields of statx, a directory": BIRTHLESS,
    **{
        f"{name}{what}": NO_IOCTL
        for name in ("FS_IOC_GETFLAGS", "FS_IOC_GETVERSION", "FS_IOC_FSGETXATTR")
        for what in ("", " of a directory")
    },
}
"""The rows that differ from those of a served mount by the kernel transport, with their outcomes."""


def missing() -> str | None:
    try:
        libfuse.load()
    except TransportError as error:
        return str(error)
    return None


@pytest.mark.skipif(missing() is not None, reason=missing() or "")
def test_every_row_as_locally(table: Table, mounting: Mounting) -> None:
    """As root and as an ordinary user."""
    mount = mounting(table.store, mode="cached", transport="libfuse")
    for uid in (0, ORDINARY):
        assert differing(table, mount.path, "no-open", uid, BY_LIBFUSE) == {}, f"as {uid}"
    assert "answered" not in mount.log()  # none of it was a failure
