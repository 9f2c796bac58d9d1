"""A proxy that makes a server seem farther away: `python -m benchmarks.delay LISTEN_PORT PORT MILLISECONDS`.

What a client sends arrives that much later, and what the server answers at once, so a round trip takes that much
longer. The first bytes of a connection wait for it twice, as they would for its handshake. Nothing bounds the rate:
answers go through a pipe inside the kernel, and what is on its way to the server is kept, up to `WINDOW` a connection.
"""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
from collections import deque
from contextlib import suppress

CHUNK = 1 << 20
WINDOW = 16 << 20


def serve(listen: int, port: int, delay: float) -> None:
    """Accept connections for ever; `delay` in seconds."""
    listener = socket.create_server(("127.0.0.1", listen), backlog=256)
    while True:
        client, _ = listener.accept()
        threading.Thread(target=_connect, args=(client, port, delay), daemon=True).start()


def _connect(client: socket.socket, port: int, delay: float) -> None:
    try:
        server = socket.create_connection(("127.0.0.1", port))
    except OSError:
        client.close()
        return
    for end in (client, server):
        end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    way = _Way(server, delay)
    threads = [
        threading.Thread(target=way.take, args=(client,), daemon=True),
        threading.Thread(target=way.give, daemon=True),
    ]
    for thread in threads:
        thread.start()
    _splice(server, client)
    for end in (client, server):
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
    for thread in threads:
        thread.join()
    client.close()
    server.close()


class _Way:
    """What is on its way to the server: bytes, and when they are due."""

    def __init__(self, server: socket.socket, delay: float) -> None:
        self._server = server
        self._delay = delay
        self._waiting: deque[tuple[float, bytes]] = deque()
        self._size = 0
        self._changed = threading.Condition()

    def take(self, client: socket.socket) -> None:
        delay = 2 * self._delay
        while True:
            try:
                data = client.recv(CHUNK)
            except OSError:
                data = b""
            with self._changed:
                while self._size > WINDOW:
                    self._changed.wait()
                self._waiting.append((time.monotonic() + delay, data))
                self._size += len(data)
                self._changed.notify_all()
            if not data:
                return
            delay = self._delay

    def give(self) -> None:
        while True:
            with self._changed:
                while not self._waiting:
                    self._changed.wait()
                due, data = self._waiting.popleft()
                self._size -= len(data)
                self._changed.notify_all()
            time.sleep(max(0.0, due - time.monotonic()))
            with suppress(OSError):  # the server hung up; what the client sends still has to be taken
                if data:
                    self._server.sendall(data)
                else:
                    self._server.shutdown(socket.SHUT_WR)
            if not data:
                return


def _splice(source: socket.socket, target: socket.socket) -> None:
    """Move bytes inside the kernel until the source ends."""
    take, give = os.pipe()
    try:
        while count := os.splice(source.fileno(), give, CHUNK):
            while count:
                count -= os.splice(take, target.fileno(), count)
    except OSError:
        pass
    finally:
        os.close(take)
        os.close(give)


if __name__ == "__main__":
    serve(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]) / 1000)
