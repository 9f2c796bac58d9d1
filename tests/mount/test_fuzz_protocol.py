"""The protocol's reader is attacked: what a kernel asks, and anything that one never would, bent in every way.

Every request gets an errno that it may get, or an answer that an independent reader finds well-formed, and does nothing
to those that come after it. The requests that others are made of are in tests/data/fuse-requests.txt.
"""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from fuseanswers import HEADER, fault, records
from hypothesis import example, given, settings
from hypothesis import strategies as st
from shop import FIRST, MNIST, make_shop
from test_kernel import Peer, read_in

from artifactfs.mount.fuse.protocol import Opcode
from artifactfs.mount.shown.nodes import ROOT, Kind
from artifactfs.store import Store

TORTURE = os.environ.get("ARTIFACTFS_TORTURE", "") not in ("", "0")
EXAMPLES = 20_000 if TORTURE else 150
pytestmark = pytest.mark.timeout(3600 if TORTURE else 300)
SAVED = [
    (name, bytes.fromhex(text))
    for name, text in (
        line.split()
        for line in (Path(__file__).parent.parent / "data" / "fuse-requests.txt").read_text().splitlines()
        if not line.startswith("#")
    )
]
REQUESTS = [data for name, data in SAVED if name != "INIT"]
INITS = [data for name, data in SAVED if name == "INIT"]
LARGEST = 1 << 17  # what the buffer holds that a request is read into
XATTRS = [b"digest", b"size", b"cached", b"ref", b"version", b"aliases", b"name", b"x"]
WORDS = st.sampled_from(
    [0, 1, 2, 3, 7, 8, 39, 40, 4095, 4096, 2**16, 2**20, 2**31 - 1, 2**31, 2**32 - 1]
) | st.integers(0, 2**32 - 1)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    store = make_shop(tmp_path_factory.mktemp("fuzz") / "store")
    yield store
    store.close()


@pytest.fixture(scope="module", params=["no-open", "passthrough"])
def peer(request: pytest.FixtureRequest, shop: Store) -> Iterator[Peer]:
    """A kernel in each mode, over a real store. Its device is a pipe, so no file is really passed through."""
    made = Peer(shop, passthrough=request.param == "passthrough")
    yield made
    made.close()


def answered(peer: Peer, request: bytes) -> bytes | None:
    """The answer's bytes."""
    call = peer._call
    call.data[: len(request)] = request
    answer = peer.kernel.answer(call, len(request))
    return None if answer is None else b"".join(answer)


def expect_sound(peer: Peer, request: bytes) -> None:
    """The request is answered well, whatever it is, and the next one too."""
    logged = len(peer.log)
    answer = answered(peer, request)
    assert fault(request, answer) is None, (fault(request, answer), request.hex())
    for line in peer.log[logged:]:  # only of what a kernel would not ask: the bytes of a directory
        assert "read answered EIO" in line or "open answered EIO" in line or "cannot be passed through" in line, line
    assert peer.read(file_node(peer), 1, 3) == b"ell"


def file_node(peer: Peer) -> int:
    return peer.find(f"{MNIST}/v0/a.txt")


def nodes() -> st.SearchStrategy[int]:
    """The root, nodes of every kind (also kinds that there are not) with rows and indexes that are there and that are
    not, and anything else."""
    rows = st.sampled_from([0, 1, 2, 3, 4, 1000, 2**29 - 1])
    indexes = st.sampled_from([0, 1, 2, 3, 4, 5, 100, 164, 165, 2**30 - 1])
    made = st.builds(lambda kind, row, index: kind << 59 | row << 30 | index, st.integers(0, 31), rows, indexes)
    return st.just(ROOT) | made | st.integers(0, 2**64 - 1)


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    """A request that a kernel sent, or one made of numbers, bent."""
    data = bytearray(draw(st.sampled_from(REQUESTS)))
    if draw(st.booleans()):
        struct.pack_into("=Q", data, 16, draw(nodes()))
    for bend in draw(st.lists(st.sampled_from([words, opcode, cut, junk, flip, splice, name, huge]), max_size=3)):
        data = bend(draw, data)
    if draw(st.integers(0, 3)):  # mostly true: a length that lies is refused at once
        struct.pack_into("=I", data, 0, len(data)) if len(data) >= 4 else None
    elif len(data) >= 4:
        struct.pack_into("=I", data, 0, draw(WORDS))
    if len(data) >= 8 and struct.unpack_from("=I", data, 4)[0] == Opcode.INIT:
        struct.pack_into("=I", data, 4, Opcode.GETATTR)
    return bytes(data[:LARGEST])


def words(draw: st.DrawFn, data: bytearray) -> bytearray:
    """Some numbers of the body are others."""
    for at in draw(st.lists(st.integers(0, max((len(data) - HEADER) // 4 - 1, 0)), max_size=4)):
        if HEADER + 4 * at + 4 <= len(data):
            struct.pack_into("=I", data, HEADER + 4 * at, draw(WORDS))
    return data


def opcode(draw: st.DrawFn, data: bytearray) -> bytearray:
    """Another request's body, or one that there is not."""
    if len(data) >= 8:
        struct.pack_into("=I", data, 4, draw(st.sampled_from([*Opcode, 0, 7, 19, 53, 4096]) | WORDS))
    return data


def cut(draw: st.DrawFn, data: bytearray) -> bytearray:
    """Truncated, also in its header."""
    return data[: draw(st.integers(0, len(data)))]


def junk(draw: st.DrawFn, data: bytearray) -> bytearray:
    """More behind it than belongs there."""
    return data + draw(st.binary(max_size=64)) * draw(st.sampled_from([1, 2, 100]))


def huge(draw: st.DrawFn, data: bytearray) -> bytearray:
    """As large as a request can be, with a name that does not end, or ends at the last byte."""
    return (data + draw(st.sampled_from([b"a", b"/", b"\xff"])) * LARGEST)[: LARGEST - 1] + draw(
        st.sampled_from([b"\0", b"a"])
    )


def flip(draw: st.DrawFn, data: bytearray) -> bytearray:
    """One byte is another."""
    if data:
        data[draw(st.integers(0, len(data) - 1))] ^= draw(st.integers(1, 255))
    return data


def splice(draw: st.DrawFn, data: bytearray) -> bytearray:
    """The rest is that of another request."""
    other = draw(st.sampled_from(REQUESTS))
    at = draw(st.integers(0, min(len(data), len(other))))
    return data[:at] + other[at:]


def name(draw: st.DrawFn, data: bytearray) -> bytearray:
    """Another name at the end, which may not be a name at all."""
    names = [
        b"",
        b"\0",
        b".\0",
        b"..\0",
        b"/\0",
        b"a/b\0",
        b"a.txt",
        b"a.txt\0",
        b"latest\0",
        b".artifactfs\0",
        b"v0\0",
        b"v-1\0",
    ]
    more = [
        b"manifest.json\0",
        b"user.artifactfs.digest\0",
        b"user.artifactfs.\0",
        b"user.artifactfs.\xff\0",
        b"\xff\xfe\0",
    ]
    long = [b"n" * 255 + b"\0", b"n" * 256 + b"\0", b"n" * 5000 + b"\0"]
    return data[: draw(st.sampled_from([HEADER, HEADER + 8]))] + draw(st.sampled_from([*names, *more, *long]))


def test_what_a_kernel_asks_is_answered(peer: Peer) -> None:
    for request in REQUESTS:
        expect_sound(peer, request)


def test_the_saved_requests_have_every_opcode() -> None:
    assert {name for name, _ in SAVED} == {opcode.name for opcode in Opcode}
    assert all(Opcode(struct.unpack_from("=I", data, 4)[0]).name == name for name, data in SAVED)


@given(request=requests())
@settings(max_examples=EXAMPLES)
def test_bent_requests_get_an_errno_or_an_answer(peer: Peer, request: bytes) -> None:
    expect_sound(peer, request)


def test_requests_cut_at_every_length(peer: Peer) -> None:
    """With the length that they have, and with the one that they had."""
    for request in {data[4:8]: data for data in REQUESTS}.values():
        for length in range(len(request)):
            expect_sound(peer, request[:length])
            if length >= HEADER:
                expect_sound(peer, struct.pack("=I", length) + request[4:length])


def test_nodes_that_are_not_there(peer: Peer) -> None:
    """Every kind, with rows and indexes that are absent, or beyond what a number can be."""
    bodies = {struct.unpack_from("=I", data, 4)[0]: data[HEADER:] for data in REQUESTS}
    for opcode in [*Opcode, 0, 7, 19, 53, 4095, 4096, 2**31, 2**32 - 1]:
        if opcode == Opcode.INIT:
            continue
        for kind in range(32):
            for row, index in (
                (0, 0),
                (0, 1),
                (1, 2**30 - 1),
                (999, 0),
                (999, 5),
                (2**29 - 1, 2**30 - 1),
                (2**29 - 1, 0),
            ):
                request = peer.request(opcode, kind << 59 | row << 30 | index, bodies.get(opcode, b""))
                answer = answered(peer, request)
                assert fault(request, answer) is None, (opcode, kind, row, index, fault(request, answer))


def test_a_node_has_no_children_unless_it_is_a_directory(peer: Peer) -> None:
    """Whatever a name, nothing is found below a file or a link, of this version or of another."""
    below = [b"manifest.json\0", b"README.md\0", b".artifactfs\0", b"a.txt\0", b"v0\0"]
    leaves = [Kind.ALIAS << 59 | row << 30 | index for row in range(4) for index in range(2)]
    leaves += [file_node(peer), peer.find(f"{MNIST}/v0/.artifactfs/README.md")]
    for node in leaves:
        for name in below:
            answer = peer.raw(peer.request(Opcode.LOOKUP, node, name))
            assert answer is not None
            assert answer[0] in (errno.ENOENT, errno.ENOTDIR) or answer[1][:8] == bytes(8), (node, name)


def test_forgotten_nodes_are_still_who_they_were(peer: Peer) -> None:
    """Forgetting frees nothing, so that forgetting once too often, or what never was, harms nobody."""
    node, large = file_node(peer), peer.find(f"{MNIST}/v0/large.bin")
    before = peer.ask(Opcode.GETATTR, node, bytes(16))[16:]
    for count in (1, 2**64 - 1, 0):
        assert peer.raw(peer.request(Opcode.FORGET, node, struct.pack("=Q", count))) is None
        batch = struct.pack("=II", 2**32 - 1, 0) + struct.pack("=QQ", node, count) * 100
        assert peer.raw(peer.request(Opcode.BATCH_FORGET, 0, batch)) is None
    assert peer.ask(Opcode.GETATTR, node, bytes(16))[16:] == before
    assert peer.read(node, 0, 100) == FIRST["a.txt"]
    assert peer.read(large, 500_000, 1000) == FIRST["large.bin"][500_000:501_000]


@given(
    offset=st.sampled_from([0, 1, 5, 6, 7, 614_399, 614_400, 2**31, 2**32, 2**62, 2**63 - 1, 2**63, 2**64 - 1]),
    size=WORDS,
    path=st.sampled_from(["a.txt", "large.bin", "d/b.bin", "empty"]),
)
@settings(max_examples=EXAMPLES // 5)
def test_reads_anywhere_are_exact(peer: Peer, offset: int, size: int, path: str) -> None:
    answer = peer.raw(peer.request(Opcode.READ, peer.find(f"{MNIST}/v0/{path}"), read_in(offset, size)))
    assert answer == (0, FIRST[path][offset : offset + size])


@given(
    offset=st.integers(0, 200) | st.integers(0, 2**64 - 1) | st.sampled_from([2**40, 2**40 + 1, 2**63 - 1, 2**63]),
    size=st.integers(0, 2000) | WORDS,
    plus=st.booleans(),
    path=st.sampled_from(["me", MNIST, f"{MNIST}/v0", f"{MNIST}/v0/many", f"{MNIST}/v0/.artifactfs"]),
)
@settings(max_examples=EXAMPLES)
def test_listings_from_anywhere_are_well_formed(peer: Peer, offset: int, size: int, plus: bool, path: str) -> None:
    opcode = Opcode.READDIRPLUS if plus else Opcode.READDIR
    request = peer.request(opcode, peer.find(path), read_in(offset, size))
    answer = answered(peer, request)
    assert fault(request, answer) is None, (fault(request, answer), offset, size)
    assert answer is not None
    if struct.unpack_from("=i", answer, 4)[0] == 0 and path.endswith("many"):
        names = [record.name.decode() for record in records(answer[16:], plus=plus) if not record.name.startswith(b".")]
        assert names == sorted(names) and {f"many/{name}" for name in names} <= FIRST.keys()


@given(size=st.integers(0, 300) | WORDS, name=st.sampled_from(XATTRS), node=nodes())
@settings(max_examples=EXAMPLES)
def test_extended_attributes_of_any_size(peer: Peer, size: int, name: bytes, node: int) -> None:
    asked = struct.pack("=II", size, 0)
    for request in (
        peer.request(Opcode.GETXATTR, node, asked + b"user.artifactfs." + name + b"\0"),
        peer.request(Opcode.LISTXATTR, node, asked),
    ):
        answer = answered(peer, request)
        assert fault(request, answer) is None, (fault(request, answer), size, node)


# -- INIT, which comes once, and first


@given(
    data=st.sampled_from(INITS) | st.builds(lambda data, n: data[:n], st.sampled_from(INITS), st.integers(0, 103)),
    major=st.sampled_from([0, 6, 7, 7, 7, 7, 8, 2**32 - 1]),
    minor=st.integers(0, 60) | WORDS,
    flags=st.tuples(WORDS, WORDS),
    tail=st.binary(max_size=200),
    passthrough=st.booleans(),
)
@settings(max_examples=EXAMPLES // 5)
@example(INITS[0], 7, 45, (2**32 - 1, 2**32 - 1), b"", True)
@example(b"", 0, 0, (0, 0), bytes(40), False)
def test_a_nonsensical_init_is_refused_or_agreed_on(
    shop: Store, data: bytes, major: int, minor: int, flags: tuple[int, int], tail: bytes, passthrough: bool
) -> None:
    """It is answered by itself, and only what was offered is taken."""
    request = bytearray(data + tail)
    header = ((0, len(request)), (4, Opcode.INIT), (8, 2), (12, 0))  # the tail may stand where it was
    for at, word in (*header, (40, major), (44, minor), (52, flags[0]), (56, flags[1])):
        if at + 4 <= len(request):
            struct.pack_into("=I", request, at, word)
    peer = Peer(shop, passthrough=passthrough, init=False)
    try:
        os.set_blocking(peer.device, False)
        answer = answered(peer, bytes(request))
        told = written(peer.device)
        assert (answer is None) != (told is None) or len(request) < HEADER
        whole = answer or told or b""
        if not whole:
            return
        length, error, unique = struct.unpack_from("=IiQ", whole)
        assert length == len(whole) and unique == 2
        if error:
            assert -error in (errno.EINVAL, errno.EPROTO) and length == 16
            return
        assert length == 80
        took = struct.unpack_from("=IIII", whole, 16)
        assert took[0] == 7
        if answer is None:
            offered = flags[0] if len(request) < 60 or not flags[0] & 1 << 30 else flags[0] | flags[1] << 32
            (more,) = struct.unpack_from("=I", whole, 16 + 32)
            assert (took[3] | more << 32) & ~offered == 0
            assert 31 <= took[1] <= minor
            assert peer.kernel.ready.is_set()
    finally:
        peer.close()


def written(device: int) -> bytes | None:
    """What the kernel's side wrote to the device by itself."""
    try:
        return os.read(device, 4096) or None
    except BlockingIOError:
        return None
