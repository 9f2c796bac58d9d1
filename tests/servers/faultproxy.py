"""FaultProxy: a proxy of HTTP that does harm on purpose, by rules.

An object for tests, and a program to try things by hand:

    cd tests && python -m servers.faultproxy --upstream 127.0.0.1:8333 --port 9000 \
        --rule 'status:code=503,retry_after=1 GET ^/team/ times=3' --rule 'cut:at=1000 GET after=10 chance=0.1 times=*'

A rule names a fault with its arguments, then which requests it hits: a method, a regular expression that is searched in
the target, `range` for ranged ones only, how many to let pass first (`after`), how many to hit (`times`, `*` for all),
and with what `chance`. Every rule that hits is applied, in order. Signed requests stay as they were signed: the Host
header is passed on as it came.

    delay:seconds=1           the answer begins so much later
    drop                      the connection is reset before the server hears of the request
    lose                      ... and after the server has done what was asked: the answer is lost
    cut:at=N                  the answer's body ends after N bytes, and so does the connection, as if all was well
    cut-request:at=N          the server gets N bytes of the request's body; then both connections are reset
    status:code=503           the server hears nothing; `retry_after=N` adds that header
    flip:at=N                 one bit of byte N of the answer's body (counted from its end where negative) is another
    flip-request:at=N         ... of the request's body
    wrong-range:shift=N       a range begins N bytes further on, as if it were the one that was asked for
    whole                     the range is ignored: 200, and as many bytes as the whole object has
    older                     the answer is what it was when the same was asked first; 404 where that never was
    trickle:pause=0.05        the body comes a byte at a time, with a pause after each
    scramble                  every byte of the body is another, as of an object that was there before
    stall:at=N                the body stops after N bytes, and the connection stays; with 0 no answer comes
"""

from __future__ import annotations

import argparse
import random
import re
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from io import BufferedReader
from typing import Any, ClassVar

from servers.tcpproxy import PIECE, Cutting, TcpProxy, has_ended, reset

_LINE = 1 << 16
_NO_BODY = (204, 304)
_SCRAMBLED = bytes(byte ^ 0x55 for byte in range(256))
_REASONS = {404: "Not Found", 429: "Too Many Requests", 500: "Internal Server Error", 503: "Service Unavailable"}


class HangUpError(Exception):
    """The connection to the client is to end here: with a reset, or as if all was well."""

    def __init__(self, *, abruptly: bool = True) -> None:
        super().__init__()
        self.abruptly = abruptly


class Headers:
    """The header lines of a message, in order, as they came."""

    def __init__(self, lines: Iterable[tuple[str, str]] = ()) -> None:
        self.lines = list(lines)

    def get(self, name: str) -> str | None:
        """The value of a header, None where it is not there."""
        return next((value for key, value in self.lines if key.lower() == name.lower()), None)

    def set(self, name: str, value: str | None) -> None:
        """Put a value in the place of what is there; None takes it away."""
        self.lines = [(key, other) for key, other in self.lines if key.lower() != name.lower()]
        if value is not None:
            self.lines.append((name, value))

    def packed(self, first: str) -> bytes:
        """The head of a message."""
        return "".join(f"{line}\r\n" for line in (first, *(f"{k}: {v}" for k, v in self.lines), "")).encode("latin-1")


@dataclass
class Exchange:
    """A request and its answer, as far as they have come. Faults change it. `status` 0: there is no answer yet."""

    proxy: FaultProxy
    method: str
    target: str
    headers: Headers
    client: socket.socket
    status: int = 0
    reason: str = ""
    answer: Headers | None = None
    ready: bytes | None = None
    """An answer's body that does not come from the server."""
    around: tuple[bytes, bytes] = (b"", b"")
    """What comes before the body that the server answered, and behind it."""
    is_counted: bool = False

    @property
    def key(self) -> tuple[str, str, str]:
        """What the same question has in common; signatures that are part of the target are not."""
        target = re.sub(r"([?&])X-Amz-[^&]*", r"\1", self.target)
        return self.method, target, self.headers.get("range") or ""

    def answers(self, status: int, body: bytes = b"", *lines: tuple[str, str]) -> None:
        """Answer by ourselves."""
        self.status, self.reason, self.ready = status, _REASONS.get(status, "Told So"), body
        self.answer = Headers([("Content-Length", str(len(body))), *lines])


class Fault:
    """What is done to an exchange. Each of the methods is called when the exchange has come so far."""

    name: ClassVar[str]

    def asked(self, exchange: Exchange) -> None:
        """The head of the request is there; nothing was passed on."""

    def sent(self, pieces: Iterator[bytes], exchange: Exchange) -> Iterator[bytes]:
        """The body of the request, on its way to the server."""
        return pieces

    def answered(self, exchange: Exchange) -> None:
        """The head of the answer is there, and the client knows nothing of it."""

    def told(self, pieces: Iterator[bytes], exchange: Exchange) -> Iterator[bytes]:
        """The body of the answer, on its way to the client."""
        return pieces


@dataclass(frozen=True)
class Delay(Fault):
    """The answer begins so many seconds later."""

    seconds: float
    name = "delay"

    def answered(self, exchange: Exchange) -> None:
        exchange.proxy.wait(self.seconds)


@dataclass(frozen=True)
class Drop(Fault):
    """The connection is reset before the server hears of the request."""

    name = "drop"

    def asked(self, exchange: Exchange) -> None:
        raise HangUpError


@dataclass(frozen=True)
class Lose(Fault):
    """The server has done what was asked, and the connection is reset before the client hears of it."""

    name = "lose"

    def answered(self, exchange: Exchange) -> None:
        raise HangUpError


@dataclass(frozen=True)
class Cut(Fault):
    """The answer's body ends after `at` bytes, and so does the connection, as if all was well."""

    at: int
    name = "cut"

    def told(self, pieces: Iterator[bytes], exchange: Exchange) -> Iterator[bytes]:
        yield from _first(pieces, self.at)
        raise HangUpError(abruptly=False)


@dataclass(frozen=True)
class CutRequest(Fault):
    """The server gets `at` bytes of the request's body; then both connections are reset."""

    at: int
    name = "cut-request"

    def sent(self, pieces: Iterator[bytes], exchange: Exchange) -> Iterator[bytes]:
        yield from _first(pieces, self.at)
        raise HangUpError


@dataclass(frozen=True)
class Status(Fault):
    """The server hears nothing, and the client this status; with `retry_after`, when to try again (seconds)."""

    code: int
    retry_after: int | None = None
    name = "status"

    def asked(self, exchange: Exchange) -> None:
        lines = [("Retry-After", str(self.retry_after))] if self.retry_after is not None else []
        body = b"<Error><Code>SlowDown</Code><Message>Told so.</Message></Error>"
        exchange.answers(self.code, body, ("Content-Type", "application/xml"), *lines)


@dataclass(frozen=True)
class Flip(Fault):
    """One bit of byte `at` of the answer's body (from its end where negative) is another; none where it has no such."""

    at: int
    name = "flip"

    def told(self, pieces: Iterator[bytes], exchange: Exchange) -> Iterator[bytes]:
        return _flipped(pieces, self.at)


@dataclass(frozen=True)
class FlipRequest(Fault):
    """One bit of byte `at` of the request's body is another."""

    at: int
    name = "flip-request"

    def sent(self, pieces: Iterator[bytes], exchange: Exchange) -> Iterator[bytes]:
        return _flipped(pieces, self.at)


@dataclass(frozen=True)
class WrongRange(Fault):
    """The bytes of a range begin `shift` further on, as if they were those that were asked for; the first ones come
    last. (Another range cannot be asked for: clients sign theirs.)"""

    shift: int
    name = "wrong-range"

    def told(self, pieces: Iterator[bytes], exchange: Exchange) -> Iterator[bytes]:
        whole = b"".join(pieces)
        at = self.shift % len(whole) if whole and exchange.status == 206 else 0
        return iter([whole[at:] + whole[:at]]) if whole else iter(())


@dataclass(frozen=True)
class Whole(Fault):
    """The range is ignored: 200, and an object as long as the whole, which has zeros around the range."""

    name = "whole"

    def answered(self, exchange: Exchange) -> None:
        assert exchange.answer is not None
        found = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+)", exchange.answer.get("content-range") or "")
        if found is None or exchange.status != 206 or exchange.method == "HEAD":
            return
        first, last, size = map(int, found.groups())
        exchange.around = bytes(first), bytes(size - last - 1)
        exchange.status, exchange.reason = 200, "OK"
        exchange.answer.set("Content-Range", None)
        if exchange.answer.get("content-length") is not None:
            exchange.answer.set("Content-Length", str(size))

    def told(self, pieces: Iterator[bytes], exchange: Exchange) -> Iterator[bytes]:
        before, behind = exchange.around
        yield from filter(None, (before, *pieces, behind))


@dataclass(frozen=True)
class Older(Fault):
    """The answer is what it was when the same was asked first, as long as the proxy remembers; 404 without any.

    The proxy has to be told to remember (`remember`), before the object is another.
    """

    name = "older"

    def asked(self, exchange: Exchange) -> None:
        kept = exchange.proxy.kept.get(exchange.key)
        if kept is None:
            exchange.answers(404, b"")
            return
        exchange.status, exchange.reason, exchange.answer, exchange.ready = kept[0], kept[1], Headers(kept[2]), kept[3]


@dataclass(frozen=True)
class Trickle(Fault):
    """The body comes a byte at a time, with a pause (seconds) after each. Only the client's patience ends it early."""

    pause: float = 0.05
    name = "trickle"

    def told(self, pieces: Iterator[bytes], exchange: Exchange) -> Iterator[bytes]:
        for piece in pieces:
            for at in range(len(piece)):
                yield piece[at : at + 1]
                exchange.proxy.wait(self.pause)
                if has_ended(exchange.client):
                    raise HangUpError


@dataclass(frozen=True)
class Stall(Fault):
    """The body stops after `at` bytes, and the connection stays until the client ends it; with 0 no answer comes."""

    at: int = 0
    name = "stall"

    def answered(self, exchange: Exchange) -> None:
        if self.at == 0:
            self._wait(exchange)

    def told(self, pieces: Iterator[bytes], exchange: Exchange) -> Iterator[bytes]:
        left = self.at
        for piece in pieces:
            yield piece[:left]
            left -= len(piece)
            if left <= 0:
                self._wait(exchange)

    def _wait(self, exchange: Exchange) -> None:
        while not exchange.proxy.wait(0.02) and not has_ended(exchange.client):
            pass
        raise HangUpError


@dataclass(frozen=True)
class Scramble(Fault):
    """Every byte of the body is another, as of an object that was there before under the same name."""

    name = "scramble"

    def told(self, pieces: Iterator[bytes], exchange: Exchange) -> Iterator[bytes]:
        return (piece.translate(_SCRAMBLED) for piece in pieces)


FAULTS: dict[str, type[Fault]] = {
    kind.name: kind
    for kind in (
        *(Delay, Drop, Lose, Cut, CutRequest, Status, Flip, FlipRequest),
        *(WrongRange, Whole, Older, Scramble, Trickle, Stall),
    )
}
"""Every fault, by name."""


class Rule:
    """A fault, and the requests that it hits: the `times` (None: all) that match, but for the first `after`."""

    def __init__(
        self,
        fault: Fault,
        method: str | None = None,
        target: str = "",
        *,
        ranged: bool = False,
        after: int = 0,
        times: int | None = 1,
        chance: float = 1.0,
    ) -> None:
        self.fault = fault
        self.method = method
        self.target = re.compile(target)
        self.ranged = ranged
        self.after = after
        self.times = times
        self.chance = chance
        self.hits = 0
        """How many requests met the fault."""

    def matches(self, exchange: Exchange) -> bool:
        """Whether the words of a request are those that the rule is about."""
        return (
            self.method in (None, exchange.method)
            and (not self.ranged or exchange.headers.get("range") is not None)
            and self.target.search(exchange.target) is not None
        )

    @classmethod
    def parse(cls, text: str) -> Rule:
        """A rule from its words; see the module. Raises ValueError."""
        what, *words = text.split()
        name, _, said = what.partition(":")
        if name not in FAULTS:
            raise ValueError(f"no fault is called {name!r}; there are {', '.join(FAULTS)}")
        kind = FAULTS[name]
        kinds = {field.name: float if "float" in str(field.type) else int for field in fields(kind)}  # type: ignore[arg-type]
        arguments: dict[str, Any] = {}
        for pair in filter(None, said.split(",")):
            key, _, value = pair.partition("=")
            if key not in kinds:
                raise ValueError(f"{name} has no {key!r}; it has {', '.join(kinds) or 'nothing to say'}")
            arguments[key] = kinds[key](value)
        rule = cls(kind(**arguments))
        for word in words:
            key, sign, value = word.partition("=")
            if word == "range":
                rule.ranged = True
            elif sign and key == "after":
                rule.after = int(value)
            elif sign and key == "times":
                rule.times = None if value == "*" else int(value)
            elif sign and key == "chance":
                rule.chance = float(value)
            elif word.isalpha() and word.isupper():
                rule.method = word
            else:
                rule.target = re.compile(word)
        return rule


class FaultProxy(TcpProxy):
    """A proxy of the HTTP service at `upstream` (host, port), with rules that may change at any time.

    `seen` counts requests by method and status (0 where the client got none), `hits` the faults by name. `chance` is
    what dice the rules throw. What TcpProxy can do to any service (delay, cut, away, sever), this one can too.
    """

    def __init__(
        self, upstream: tuple[str, int], *rules: Rule, delay: float = 0.0, port: int = 0, seed: int = 0
    ) -> None:
        self.rules: list[Rule] = list(rules)
        self.seen: Counter[tuple[str, int]] = Counter()
        self.hits: Counter[str] = Counter()
        self.kept: dict[tuple[str, str, str], tuple[int, str, list[tuple[str, str]], bytes]] = {}
        self.remember = False
        self.chance = random.Random(seed)
        self.verbose = False
        self._counting = threading.Lock()
        super().__init__(upstream, delay=delay, port=port)

    def __enter__(self) -> FaultProxy:
        return self

    def add(self, *rules: Rule) -> None:
        """Have these rules too."""
        with self._counting:
            self.rules.extend(rules)

    def heal(self) -> None:
        """Have no rules."""
        with self._counting:
            self.rules.clear()

    def wait(self, seconds: float) -> bool:
        """Wait, unless the proxy is closed, which it tells."""
        return self._closing.wait(seconds)

    def serve(self, client: socket.socket, cutting: Cutting | None) -> None:
        if cutting is not None or self._away is not None:
            super().serve(client, cutting)
            return
        server = self.connect()
        try:
            with client.makefile("rb") as asking, server.makefile("rb") as answering:
                while self._exchange(client, server, asking, answering):
                    pass
        except HangUpError as end:
            if end.abruptly:
                reset(client)
        finally:
            self._drop(server)

    # -- one request and its answer

    def _exchange(
        self, client: socket.socket, server: socket.socket, asking: BufferedReader, answering: BufferedReader
    ) -> bool:
        """Whether both sides go on with the connection."""
        head = _head(asking)
        if head is None:
            return False
        if self._away == "silent":
            self._await_end()
        method, target, version = head[0].split(" ", 2)
        exchange = Exchange(self, method, target, Headers(head[1]), client)
        faults = self._faults(exchange)
        try:
            return self._pass_on(exchange, faults, server, asking, answering, version)
        finally:
            if not exchange.is_counted:
                self._count(exchange, 0)
            if self.verbose:
                names = " ".join(fault.name for fault in faults)
                print(f"{method} {target} {exchange.headers.get('range') or ''} {exchange.status} {names}", flush=True)

    def _count(self, exchange: Exchange, status: int) -> None:
        """Count an exchange, before the client knows that it is done."""
        exchange.is_counted = True
        with self._counting:
            self.seen[exchange.method, status] += 1

    def _faults(self, exchange: Exchange) -> list[Fault]:
        found = []
        with self._counting:
            for rule in self.rules:
                if not rule.matches(exchange) or rule.times == 0:
                    continue
                if rule.after > 0:
                    rule.after -= 1
                elif self.chance.random() < rule.chance:
                    rule.times = rule.times - 1 if rule.times is not None else None
                    rule.hits += 1
                    self.hits[rule.fault.name] += 1
                    found.append(rule.fault)
        return found

    def _pass_on(
        self,
        exchange: Exchange,
        faults: list[Fault],
        server: socket.socket,
        asking: BufferedReader,
        answering: BufferedReader,
        version: str,
    ) -> bool:
        for fault in faults:
            fault.asked(exchange)
        framing = _framing(exchange.headers, None)
        if (exchange.headers.get("expect") or "").lower() == "100-continue":
            if exchange.ready is not None:  # the body will not come
                exchange.headers.set("Connection", "close")
                return self._answer(exchange, faults, answering, 0)
            exchange.client.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
            exchange.headers.set("Expect", None)
        if exchange.ready is None:
            server.sendall(exchange.headers.packed(f"{exchange.method} {exchange.target} {version}"))
        pieces = _body(asking, framing)
        for fault in faults:
            pieces = fault.sent(pieces, exchange)
        for piece in pieces:
            if exchange.ready is None:
                server.sendall(_framed(piece, framing))
        if exchange.ready is None:
            if framing == "chunked":
                server.sendall(b"0\r\n\r\n")
            self._await_answer(exchange, answering)
        framing = _framing(exchange.answer, exchange) if exchange.answer is not None else 0
        for fault in faults:
            fault.answered(exchange)
        return self._answer(exchange, faults, answering, framing)

    def _await_answer(self, exchange: Exchange, answering: BufferedReader) -> None:
        status = 100
        while 100 <= status < 200:
            head = _head(answering)
            if head is None:
                raise HangUpError
            _, code, *reason = head[0].split(" ", 2)
            status = int(code)
            exchange.answer = Headers(head[1])
            exchange.reason = "".join(reason)
        exchange.status = status

    def _answer(self, exchange: Exchange, faults: list[Fault], answering: BufferedReader, framing: Framing) -> bool:
        """Answer; the answer's body comes from the server in that framing."""
        answer = exchange.answer
        assert answer is not None
        has_body = exchange.method != "HEAD" and exchange.status not in _NO_BODY
        framing = framing if has_body else 0
        pieces = iter([exchange.ready]) if exchange.ready else _body(answering, framing)
        if exchange.ready is not None and not has_body:
            pieces = iter(())
        if self.remember and exchange.ready is None and exchange.key not in self.kept:
            pieces = self._kept(exchange, pieces)
        for fault in faults:
            pieces = fault.told(pieces, exchange)
        if self.delay:
            self.wait(self.delay)
        self._count(exchange, exchange.status)
        exchange.client.sendall(answer.packed(f"HTTP/1.1 {exchange.status} {exchange.reason}"))
        for piece in pieces:
            exchange.client.sendall(_framed(piece, framing))
        if framing == "chunked":
            exchange.client.sendall(b"0\r\n\r\n")
        ends = [(headers.get("connection") or "").lower() == "close" for headers in (answer, exchange.headers)]
        return framing != "to the end" and not any(ends)

    def _kept(self, exchange: Exchange, pieces: Iterator[bytes]) -> Iterator[bytes]:
        """The body, kept as what was answered first."""
        body = b"".join(pieces)
        assert exchange.answer is not None
        lines = Headers(exchange.answer.lines)
        if (exchange.answer.get("transfer-encoding") or "").lower() == "chunked":
            lines.set("Transfer-Encoding", None)
            lines.set("Content-Length", str(len(body)))
        self.kept[exchange.key] = exchange.status, exchange.reason, lines.lines, body
        yield from ([body] if body else [])


# -- messages

Framing = int | str
"""The bytes of a body, or `chunked`, or `to the end` of the connection."""


def _head(reader: BufferedReader) -> tuple[str, list[tuple[str, str]]] | None:
    """The first line of a message and its headers; None where the connection ended before."""
    first = reader.readline(_LINE)
    if not first.endswith(b"\n"):
        return None
    lines = []
    while (line := reader.readline(_LINE)) not in (b"\r\n", b"\n"):
        if not line.endswith(b"\n"):
            return None
        key, _, value = line.decode("latin-1").partition(":")
        lines.append((key.strip(), value.strip()))
    return first.decode("latin-1").strip(), lines


def _framing(headers: Headers, answer_to: Exchange | None) -> Framing:
    if (headers.get("transfer-encoding") or "").lower() == "chunked":
        return "chunked"
    length = headers.get("content-length")
    if length is not None:
        return int(length)
    return 0 if answer_to is None else "to the end"


def _body(reader: BufferedReader, framing: Framing) -> Iterator[bytes]:
    """The body of a message, without its framing. Raises HangUpError where the connection ends before it does."""
    if framing == "to the end":
        while piece := reader.read1(PIECE):
            yield piece
    elif framing == "chunked":
        while length := int(reader.readline(_LINE).partition(b";")[0], 16):
            yield from _body(reader, length)
            reader.readline(_LINE)
        while reader.readline(_LINE) not in (b"\r\n", b"\n", b""):
            pass
    else:
        left = int(framing)
        while left:
            piece = reader.read1(min(PIECE, left))
            if not piece:
                raise HangUpError
            left -= len(piece)
            yield piece


def _framed(piece: bytes, framing: Framing) -> bytes:
    return b"%x\r\n%b\r\n" % (len(piece), piece) if framing == "chunked" else piece


def _first(pieces: Iterator[bytes], count: int) -> Iterator[bytes]:
    """That many bytes of them at most."""
    while count > 0 and (piece := next(pieces, b"")):
        yield piece[:count]
        count -= len(piece)


def _flipped(pieces: Iterator[bytes], at: int) -> Iterator[bytes]:
    """The pieces with one bit of one byte changed."""
    if at < 0:
        whole = b"".join(pieces)
        pieces, at = iter([whole]) if whole else iter(()), len(whole) + at
    for piece in pieces:
        if 0 <= at < len(piece):
            changed = bytearray(piece)
            changed[at] ^= 0x10
            piece = bytes(changed)
        at -= len(piece)
        yield piece


def main() -> int:
    """Serve until it is interrupted."""
    parser = argparse.ArgumentParser(description="A proxy of HTTP that does harm on purpose, by rules.")
    parser.add_argument("--upstream", required=True, metavar="HOST:PORT")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--delay", type=float, default=0.0, metavar="SECONDS")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rule", action="append", default=[], type=Rule.parse, metavar="RULE")
    given = parser.parse_args()
    host, _, port = given.upstream.rpartition(":")
    with FaultProxy((host, int(port)), *given.rule, delay=given.delay, port=given.port, seed=given.seed) as proxy:
        proxy.verbose = True
        print(f"http://{proxy.address} -> {given.upstream}", flush=True)
        try:
            while True:
                time.sleep(3600)
        except KeyboardInterrupt:
            print(dict(proxy.hits), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
