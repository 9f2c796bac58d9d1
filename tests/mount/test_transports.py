"""Which transports are tried for what was asked, and what is said where one cannot be had."""

from __future__ import annotations

import pytest

from artifactfs.errors import InvalidError, TransportError
from artifactfs.mount import transports

TOO_OLD = TransportError("this kernel speaks FUSE 7.10; 7.31 (Linux 5.4) or newer is needed")


def there(name: str) -> str | None:
    return f"lib{name}.so.2"


def missing(name: str) -> str | None:
    return None


def test_what_is_tried_for_what_was_asked() -> None:
    for find in (there, missing):
        assert transports.in_turn("auto", find) == ["kernel", "libfuse"]
        assert transports.in_turn("kernel", find) == ["kernel"]
    assert transports.in_turn("libfuse", there) == ["libfuse"]
    with pytest.raises(InvalidError, match="auto, kernel, libfuse"):
        transports.in_turn("nfs", there)


def test_without_libfuse_it_says_how_to_install_it() -> None:
    with pytest.raises(
        TransportError, match=r"^libfuse 2 is not installed; install it with `apt-get install libfuse2`"
    ):
        transports.in_turn("libfuse", missing)


def test_what_auto_says_when_the_kernel_is_too_old() -> None:
    said = transports.instead_of_kernel(TOO_OLD, there)
    assert said.startswith("this kernel speaks FUSE 7.10") and "libfuse" in said
    with pytest.raises(TransportError, match=r"7\.10.*libfuse 2 is not installed.*apt-get install"):
        transports.instead_of_kernel(TOO_OLD, missing)
