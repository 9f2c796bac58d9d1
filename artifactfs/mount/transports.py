"""Transports: the ways in which a mount speaks with the kernel, and which of them `auto` takes.

    kernel    the kernel's own protocol, from Python; fast, and a reader does not notice that its server died
    libfuse   libfuse 2 through fusepy, where the kernel is too old for that

Owns the choice and what is said about it. Imports neither.
"""

from __future__ import annotations

import ctypes.util
from collections.abc import Callable
from typing import Final

from ..errors import InvalidError, TransportError

KERNEL: Final = "kernel"
LIBFUSE: Final = "libfuse"
AUTO: Final = "auto"
TRANSPORTS: Final = (AUTO, KERNEL, LIBFUSE)

HOW_TO_INSTALL: Final = (
    "install it with `apt-get install libfuse2` (libfuse2t64 on newer Ubuntu), `dnf install fuse-libs`, "
    "`pacman -S fuse2` or `apk add fuse`"
)


def check_libfuse(find: Callable[[str], str | None] = ctypes.util.find_library) -> None:
    """Raises TransportError, which says how to install it, where there is no libfuse 2."""
    if find("fuse") is None:
        raise TransportError(f"libfuse 2 is not installed; {HOW_TO_INSTALL}")


def in_turn(asked: str, find: Callable[[str], str | None] = ctypes.util.find_library) -> list[str]:
    """The transports to try, in this order, for what the user asked. Raises InvalidError, TransportError."""
    if asked not in TRANSPORTS:
        raise InvalidError(f"no transport {asked!r}; choose one of {', '.join(TRANSPORTS)}")
    if asked == LIBFUSE:
        check_libfuse(find)
    return [KERNEL, LIBFUSE] if asked == AUTO else [asked]


def instead_of_kernel(why: TransportError, find: Callable[[str], str | None] = ctypes.util.find_library) -> str:
    """What to say when `auto` goes on with libfuse, as the kernel's own protocol was refused.

    Raises TransportError where libfuse is missing as well.
    """
    try:
        check_libfuse(find)
    except TransportError as error:
        raise TransportError(f"{why}; or use libfuse: {error}") from None
    return f"{why}; taking the transport libfuse instead"
