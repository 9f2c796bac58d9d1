"""Process: a bucket's calls made by another process, for a process that cannot make them itself.

A data loader's worker is forked from a process that may have read from the bucket already, and then obstore does not
work in it (service.py says why). Such a process starts one of its own, by exec, which has no such past: it runs
`serve` below, and makes each call that comes over a socket pair. Owns both ends and what travels between them:

    a frame      u32 length of a head · u64 length of a body · the head, JSON · the body, bytes
    a call       {"call": name, "arguments": [...]}, its body the bytes to put
    an answer    {"value": ...}, its body the bytes that were got; or {"error": [class, message]}
    a list       an answer for each page, and one with null

Each thread that calls has a socket to itself while it does, so that calls do not wait for each other; new sockets are
handed over by the first one. The process ends when nobody holds the other end of that: it outlives no one.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import orjson

from ... import errors
from ...errors import Error, StoreError, UnavailableError
from .place import BucketPlace, access
from .service import SLICE, Head, ObstoreService, Sent, Service

_FRAME = struct.Struct("<IQ")
_MODULE = "artifactfs.blobs.bucket.process"
_HOME = str(Path(__file__).resolve().parents[3])
_START_LIMIT = 60.0


class ForeignService:
    """A bucket's calls by a process of our own, which is started with the first of them. Safe from any thread."""

    def __init__(self, place: BucketPlace, environment: Mapping[str, str], limit: float) -> None:
        """`limit` is the seconds that a call may take; after that it is given up. Raises nothing yet."""
        self._place = place
        self._environment = dict(environment)
        self._limit = limit
        self._guard = threading.Lock()
        self._process: _Process | None = None
        _services.add(self)

    def head(self, key: str) -> Head:
        value, _ = self._call("head", [key])
        return Head(*value)

    def get(self, key: str, offset: int, length: int) -> bytes:
        return self._call("get", [key, offset, length])[1]

    def put(self, key: str, data: bytes, create: bool) -> str | None:
        value: str | None = self._call("put", [key, create], data)[0]
        return value

    def put_file(self, key: str, path: str, size: int, compared: bool) -> Sent:
        value, _ = self._call("put_file", [key, os.path.abspath(path), size, compared])
        return Sent(*value)

    def delete(self, key: str) -> None:
        self._call("delete", [key])

    def pages(self, folder: str, after: str) -> Iterator[list[tuple[str, int]]]:
        process = self._running()
        with process.line() as line:
            _send(line, {"call": "pages", "arguments": [folder, after]})
            while True:
                value, _ = _answer(line, self._place, self._limit)
                if value is None:
                    return
                yield [(key, size) for key, size in value]

    def close(self) -> None:
        """End the process."""
        with self._guard:
            process, self._process = self._process, None
        if process is not None:
            process.end()

    def forget(self) -> None:
        """For a forked child: what runs is the parent's."""
        self._guard = threading.Lock()
        if self._process is not None:
            self._process.forget()
            self._process = None

    def _call(self, name: str, arguments: list[Any], data: bytes = b"") -> tuple[Any, bytes]:
        with self._running().line() as line:
            _send(line, {"call": name, "arguments": arguments}, data)
            return _answer(line, self._place, self._limit)

    def _running(self) -> _Process:
        with self._guard:
            if self._process is None or not self._process.alive():
                if self._process is not None:
                    self._process.end()
                self._process = _Process(self._place, self._environment, self._limit)
            return self._process


class _Process:
    """The process that makes the calls, seen from the one that wants them."""

    def __init__(self, place: BucketPlace, environment: Mapping[str, str], limit: float) -> None:
        self._place = place
        self._limit = limit
        self._guard = threading.Lock()
        self._idle: list[socket.socket] = []
        ours, theirs = socket.socketpair()
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-m", _MODULE, str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd=_HOME,  # `python -m` imports from where it is started
                pass_fds=[theirs.fileno()],
            )
        except OSError as error:
            ours.close()
            raise StoreError(f"{sys.executable} cannot be run for {place}; {error.strerror}") from None
        finally:
            theirs.close()
        self._control = ours
        try:
            _limit(ours, _START_LIMIT)
            _send(ours, {"url": place.url, "environment": environment})
            _answer(ours, place, _START_LIMIT)
        except BaseException as error:
            self.end()
            if isinstance(error, OSError) and not isinstance(error, Error):
                raise UnavailableError(f"the process that reads {place} could not be started; try again") from None
            raise

    def alive(self) -> bool:
        return self._process.poll() is None

    @contextlib.contextmanager
    def line(self) -> Iterator[socket.socket]:
        """A socket for one call. One that a call did not end well on is not used again."""
        try:
            line = self._take()
            done = False
            try:
                yield line
                done = True
            except Error:
                done = True  # it was an answer
                raise
            finally:
                if done:
                    with self._guard:
                        self._idle.append(line)
                else:
                    line.close()
        except (TimeoutError, BlockingIOError):
            raise UnavailableError(f"{self._place} does not answer in time; try again") from None
        except OSError as error:
            if isinstance(error, Error):
                raise
            raise UnavailableError(f"the process that reads {self._place} ended; try again") from None

    def _take(self) -> socket.socket:
        with self._guard:
            if self._idle:
                return self._idle.pop()
            ours, theirs = socket.socketpair()
            with theirs:
                try:
                    socket.send_fds(self._control, [b"+"], [theirs.fileno()])
                except BaseException:
                    ours.close()
                    raise
            _limit(ours, self._limit)
            return ours

    def end(self) -> None:
        self.forget()
        self._process.kill()
        self._process.wait()

    def forget(self) -> None:
        for line in (self._control, *self._idle):
            line.close()
        self._idle = []


_services: weakref.WeakSet[ForeignService] = weakref.WeakSet()


def _in_child() -> None:
    for service in list(_services):
        service.forget()


os.register_at_fork(after_in_child=_in_child)


# -- what travels


def _send(line: socket.socket, head: Any, body: bytes = b"") -> None:
    text = orjson.dumps(head)
    line.sendall(_FRAME.pack(len(text), len(body)) + text)
    if body:
        line.sendall(body)


def _receive(line: socket.socket) -> tuple[Any, bytes] | None:
    """A frame, or None where the other side is gone. Raises ConnectionError where it goes in the midst of one."""
    sizes = _exactly(line, _FRAME.size)
    if not sizes:
        return None
    head, body = _FRAME.unpack(sizes)
    text, data = _exactly(line, head), _exactly(line, body)
    if len(text) < head or len(data) < body:
        raise ConnectionError("the other side went away")
    return orjson.loads(text), data


def _exactly(line: socket.socket, count: int) -> bytes:
    """`count` bytes, fewer only where the other side is gone."""
    pieces = []
    while count:
        data = line.recv(count, socket.MSG_WAITALL)
        if not data:
            break
        pieces.append(data)
        count -= len(data)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def _limit(line: socket.socket, seconds: float) -> None:
    """Let no call on the socket take longer. By the kernel: with Python's own limit a large answer comes in morsels."""
    value = struct.pack("ll", int(seconds), int(seconds % 1 * 1e6))
    line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, value)
    line.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, value)


def _answer(line: socket.socket, place: BucketPlace, limit: float) -> tuple[Any, bytes]:
    waiting = select.poll()
    waiting.register(line, select.POLLIN)
    deadline = time.monotonic() + limit
    while not waiting.poll(SLICE * 1000):  # in slices, so that no signal is missed
        if time.monotonic() > deadline:
            raise TimeoutError
    frame = _receive(line)
    if frame is None:
        raise ConnectionError(f"nobody answers for {place}")
    head, body = frame
    if "error" in head:
        name, message = head["error"]
        raise _error_class(name)(message)
    return head["value"], body


def _error_class(name: str) -> type[Error]:
    found = getattr(errors, name, None)
    return found if isinstance(found, type) and issubclass(found, Error) else StoreError


# -- the process


def serve(number: int) -> None:
    """Answer what comes on the socket with that number, until its other end is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for those that call; without them this ends too
    control = socket.socket(fileno=number)
    frame = _receive(control)
    if frame is None:
        return
    try:
        place = BucketPlace.parse(frame[0]["url"])
        service: Service = ObstoreService(place, access(place, frame[0]["environment"]))
    except Error as error:
        _send(control, _told(error))
        return
    _send(control, {"value": None})
    while True:
        data, numbers, _, _ = socket.recv_fds(control, 1, 1)
        if not data:
            os._exit(0)  # threads may be in the midst of a request, which nobody waits for any more
        for given in numbers:
            threading.Thread(target=_serve_line, args=(service, socket.socket(fileno=given)), daemon=True).start()


def _serve_line(service: Service, line: socket.socket) -> None:
    with line, contextlib.suppress(OSError):
        while (frame := _receive(line)) is not None:
            call, body = frame
            try:
                _answer_call(service, line, call["call"], call["arguments"], body)
            except Error as error:
                _send(line, _told(error))


def _answer_call(service: Service, line: socket.socket, name: str, arguments: list[Any], body: bytes) -> None:
    if name == "get":
        _send(line, {"value": None}, bytes(service.get(*arguments)))
    elif name == "put":
        key, create = arguments
        _send(line, {"value": service.put(key, body, create)})
    elif name == "pages":
        for page in service.pages(*arguments):
            _send(line, {"value": page})
        _send(line, {"value": None})
    elif name == "head":
        _send(line, {"value": list(service.head(*arguments))})
    elif name == "put_file":
        _send(line, {"value": list(service.put_file(*arguments))})
    elif name == "delete":
        service.delete(*arguments)
        _send(line, {"value": None})
    else:
        raise StoreError(f"there is no call {name}")


def _told(error: Error) -> dict[str, Any]:
    return {"error": [type(error).__name__, str(error)]}


if __name__ == "__main__":
    serve(int(sys.argv[1]))
