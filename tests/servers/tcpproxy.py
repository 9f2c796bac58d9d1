"""TcpProxy: a proxy of any TCP service that delays, cuts and goes away when it is told to.

Owns sockets and threads, and no protocol: what HTTP makes of it is faultproxy.py's. The listening socket stays bound
while the service is "away", so no other program takes its port.
"""

from __future__ import annotations

import contextlib
import queue
import socket
import struct
import threading
import time
from collections.abc import Iterator
from typing import Literal, NamedTuple

PIECE = 1 << 16
_GLANCE = 0.02

Direction = Literal["to server", "to client"]
Away = Literal["reset", "silent"]


class Cutting(NamedTuple):
    """One connection ends after so many bytes in that direction; with `silent` it stays, and nothing more comes."""

    direction: Direction
    at: int
    silent: bool = False


class TcpProxy:
    """Relays connections to `upstream` (host, port) from a port of its own on 127.0.0.1.

    `delay` is added to everything, each way, in seconds; it costs no throughput. `connections` counts those that were
    accepted, `cuts` those that a Cutting ended.
    """

    def __init__(self, upstream: tuple[str, int], *, delay: float = 0.0, port: int = 0) -> None:
        self.upstream = upstream
        self.delay = delay
        self.connections = 0
        self.cuts = 0
        self._away: Away | None = None
        self._cuttings: list[Cutting] = []
        self._open: set[socket.socket] = set()
        self._guard = threading.Lock()
        self._closing = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", port), backlog=256)
        self.host, self.port = self._listener.getsockname()[:2]
        self._accepting = threading.Thread(target=self._accept, name="proxy", daemon=True)
        self._accepting.start()

    @property
    def address(self) -> str:
        """`host:port`."""
        return f"{self.host}:{self.port}"

    def __enter__(self) -> TcpProxy:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- what it is told

    def cut(self, *cuttings: Cutting) -> None:
        """End one connection for each of these: the next ones that are accepted, in turn."""
        with self._guard:
            self._cuttings.extend(cuttings)

    def go_away(self, how: Away = "reset") -> None:
        """Be as a service that is gone: connections there are end, new ones are reset, or get no answer at all."""
        self._away = how
        if how == "reset":
            self.sever()

    def come_back(self) -> None:
        """Be there again. Connections that got no answer meanwhile end."""
        if self._away is not None:
            self._away = None
            self.sever()

    @contextlib.contextmanager
    def away(self, how: Away = "reset") -> Iterator[None]:
        """Away while the block lasts."""
        self.go_away(how)
        try:
            yield
        finally:
            self.come_back()

    def sever(self) -> None:
        """End every connection there is, at once."""
        with self._guard:
            for one in self._open:
                _shut(one)

    def close(self) -> None:
        """End everything; harmless when called again."""
        self._closing.set()
        _shut(self._listener)  # a blocked accept does not notice that the socket is closed
        self._accepting.join()
        self._listener.close()
        self.sever()

    # -- relaying

    def _accept(self) -> None:
        while not self._closing.is_set():
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            with self._guard:
                self.connections += 1
                cutting = self._cuttings.pop(0) if self._cuttings and self._away is None else None
            if self._away == "reset":
                reset(client)
                continue
            self._keep(client)
            if self._away is None:
                threading.Thread(target=self._guarded, args=(client, cutting), name="proxied", daemon=True).start()

    def _guarded(self, client: socket.socket, cutting: Cutting | None) -> None:
        try:
            self.serve(client, cutting)
        except OSError:
            pass  # either side may be gone at any moment
        finally:
            self._drop(client)

    def serve(self, client: socket.socket, cutting: Cutting | None) -> None:
        """Relay one connection until it ends."""
        server = self.connect()
        try:
            back = threading.Thread(
                target=self._relay, args=(server, client, "to client", cutting), name="back", daemon=True
            )
            back.start()
            self._relay(client, server, "to server", cutting)
            back.join()
        finally:
            self._drop(server)

    def connect(self) -> socket.socket:
        """A connection to the service."""
        server = socket.create_connection(self.upstream, timeout=60)
        server.settimeout(None)
        server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._keep(server)
        return server

    def _relay(self, source: socket.socket, sink: socket.socket, way: Direction, cutting: Cutting | None) -> None:
        limit = cutting.at if cutting is not None and cutting.direction == way else None
        sent = 0
        try:
            for piece in self._delayed(source):
                if self._away == "silent":
                    self._await_end()
                if limit is not None and sent + len(piece) >= limit:
                    sink.sendall(piece[: limit - sent])
                    with self._guard:
                        self.cuts += 1
                    assert cutting is not None
                    if cutting.silent:
                        self._await_end(source)
                    _shut(source)
                    break
                sink.sendall(piece)
                sent += len(piece)
            _shut(sink, socket.SHUT_WR if limit is None else socket.SHUT_RDWR)
        except OSError:
            for end in (source, sink):
                _shut(end)

    def _delayed(self, source: socket.socket) -> Iterator[bytes]:
        """The pieces that come, each when it is due."""
        if not self.delay:
            while piece := source.recv(PIECE):
                yield piece
            return
        pieces: queue.SimpleQueue[tuple[float, bytes]] = queue.SimpleQueue()

        def read() -> None:
            piece = b"-"
            while piece:
                try:
                    piece = source.recv(PIECE)
                except OSError:
                    piece = b""
                pieces.put((time.monotonic() + self.delay, piece))

        threading.Thread(target=read, name="delayed", daemon=True).start()
        while True:
            due, piece = pieces.get()
            self._closing.wait(max(due - time.monotonic(), 0.0))
            if not piece:
                return
            yield piece

    def _await_end(self, socket_: socket.socket | None = None) -> None:
        """Do nothing until the connection is severed."""
        while not self._closing.wait(_GLANCE):
            if socket_ is None and self._away != "silent":
                break
            if socket_ is not None and has_ended(socket_):
                break
        raise ConnectionAbortedError

    def _keep(self, one: socket.socket) -> None:
        with self._guard:
            self._open.add(one)

    def _drop(self, one: socket.socket) -> None:
        with self._guard:
            self._open.discard(one)
        _shut(one)
        one.close()


def reset(one: socket.socket) -> None:
    """End a connection with a reset, as a process that died does, or a firewall."""
    with contextlib.suppress(OSError):
        one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    one.close()


def has_ended(one: socket.socket) -> bool:
    """Whether the other side ended the connection; what it sent is left where it is."""
    try:
        return one.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True


def _shut(one: socket.socket, how: int = socket.SHUT_RDWR) -> None:
    with contextlib.suppress(OSError):
        one.shutdown(how)
