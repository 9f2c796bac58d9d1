"""One READ, followed from the device to the bytes: through four modules, as the README says, and no more."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import pytest
from shop import FIRST, MNIST, make_shop
from test_kernel import Peer, read_in

import artifactfs
from artifactfs.mount.fuse.protocol import Opcode
from artifactfs.mount.fuse.waits import WatchedStore

ROOT = Path(artifactfs.__file__).parent
PATH = ["mount/kernel.py", "mount/fuse/answers.py", "mount/fuse/waits.py", "reading/reader.py"]


@pytest.fixture(scope="module")
def peer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Peer]:
    """A kernel over a real store, put together as a worker does."""
    store = make_shop(tmp_path_factory.mktemp("one") / "store")
    made = Peer(WatchedStore(store))  # type: ignore[arg-type]
    yield made
    made.close()
    store.close()


def followed(peer: Peer, request: bytes) -> tuple[list[str], bytes]:
    """The modules of artifactfs in which something was called for a request, in that order, and its answer."""
    seen: list[str] = []

    def note(frame: FrameType, event: str, _: object) -> None:
        path = Path(frame.f_code.co_filename)
        if event == "call" and path.is_relative_to(ROOT):
            name = path.relative_to(ROOT).as_posix()
            if name not in seen:
                seen.append(name)

    call = peer._call
    call.data[: len(request)] = request
    sys.setprofile(note)
    try:
        answer = peer.kernel.answer(call, len(request))
    finally:
        sys.setprofile(None)
    assert answer is not None
    return seen, b"".join(answer)[16:]


def test_a_read_passes_four_modules(peer: Peer) -> None:
    node = peer.find(f"{MNIST}/v0/large.bin")
    request = peer.request(Opcode.READ, node, read_in(300_000, 4096))
    first, data = followed(peer, request)
    assert data == FIRST["large.bin"][300_000:304_096]
    assert {*PATH, "mount/tree.py", "mount/fuse/heldblobs.py"} <= set(first)  # which open it, and keep it open
    then, data = followed(peer, request)
    assert data == FIRST["large.bin"][300_000:304_096]
    assert then == PATH


def test_the_readme_names_them() -> None:
    readme = (ROOT.parent / "README.md").read_text()
    places = [readme.find(f"`{name}`") for name in PATH]
    assert -1 not in places and places == sorted(places)
