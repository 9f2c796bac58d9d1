"""The proxy that does harm does the harm that it is told to, and no other."""

from __future__ import annotations

import http.client
import http.server
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from servers.faultproxy import (
    FAULTS,
    Cut,
    CutRequest,
    Delay,
    Drop,
    FaultProxy,
    Flip,
    FlipRequest,
    Lose,
    Older,
    Rule,
    Scramble,
    Stall,
    Status,
    Trickle,
    Whole,
    WrongRange,
)
from servers.tcpproxy import Cutting, TcpProxy

DATA = bytes(range(256)) * 800
DEADLINE = 60


class Handler(http.server.BaseHTTPRequestHandler):
    """Objects in memory: PUT, HEAD, and GET with ranges; `/chunked/...` is answered in chunks."""

    protocol_version = "HTTP/1.1"
    server: Server

    def do_PUT(self) -> None:
        data = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.objects[self.path] = data
        self._answer(200, b"")

    def do_GET(self) -> None:
        data = self.server.objects.get(self.path)
        if data is None:
            return self._answer(404, b"none")
        found = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if found is None:
            return self._answer(200, data)
        first, last = int(found[1]), min(int(found[2] or len(data) - 1), len(data) - 1)
        return self._answer(206, data[first : last + 1], f"bytes {first}-{last}/{len(data)}")

    do_HEAD = do_GET

    def _answer(self, status: int, body: bytes, content_range: str = "") -> None:
        is_chunked = self.path.startswith("/chunked/") and self.command == "GET"
        self.send_response(status)
        if content_range:
            self.send_header("Content-Range", content_range)
        if is_chunked:
            self.send_header("Transfer-Encoding", "chunked")
        else:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "HEAD":
            return
        if not is_chunked:
            self.wfile.write(body)
            return
        for at in range(0, len(body), 50_000):
            piece = body[at : at + 50_000]
            self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))
        self.wfile.write(b"0\r\n\r\n")

    def log_message(self, *_: object) -> None:
        pass


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.objects: dict[str, bytes] = {"/a": DATA, "/chunked/a": DATA}

    def handle_error(self, *_: object) -> None:
        pass  # its clients are cut off, as they should be


@pytest.fixture(scope="module")
def running() -> Iterator[Server]:
    server = Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def server(running: Server) -> Server:
    running.objects = {"/a": DATA, "/chunked/a": DATA}
    return running


@pytest.fixture
def proxy(server: Server) -> Iterator[FaultProxy]:
    with FaultProxy(server.server_address[:2]) as made:
        yield made


@pytest.fixture
def client(proxy: FaultProxy) -> Iterator[http.client.HTTPConnection]:
    made = http.client.HTTPConnection(proxy.host, proxy.port, timeout=DEADLINE)
    yield made
    made.close()


Answer = tuple[int, bytes]


def ask(
    client: http.client.HTTPConnection,
    method: str = "GET",
    target: str = "/a",
    body: bytes | None = None,
    **headers: str,
) -> Answer:
    client.request(method, target, body, headers)
    answer = client.getresponse()
    return answer.status, answer.read()


def test_without_a_rule_nothing_is_changed(client: http.client.HTTPConnection, proxy: FaultProxy) -> None:
    for target in ("/a", "/chunked/a"):
        assert ask(client, target=target) == (200, DATA)
        assert ask(client, target=target, Range="bytes=100-299") == (206, DATA[100:300])
    assert ask(client, "HEAD") == (200, b"") and ask(client, target="/none") == (404, b"none")
    assert ask(client, "PUT", "/new", b"x" * 300_000) == (200, b"")
    client.request("PUT", "/chunks", iter([b"one", b"two" * 50_000]), {"Content-Length": "150003"})
    assert client.getresponse().read() == b""
    assert ask(client, target="/chunks") == (200, b"one" + b"two" * 50_000)
    assert proxy.connections == 1, "a connection is kept for the next request"
    assert proxy.seen == {("GET", 200): 3, ("GET", 206): 2, ("GET", 404): 1, ("HEAD", 200): 1, ("PUT", 200): 2}
    assert proxy.hits == {}


def test_status_says_when_to_come_again_and_the_server_hears_nothing(
    client: http.client.HTTPConnection, proxy: FaultProxy, server: Server
) -> None:
    proxy.add(Rule(Status(503, retry_after=7), "PUT"), Rule(Status(429), "GET"), Rule(Status(500), "HEAD"))
    client.request("PUT", "/new", b"x" * 100_000)
    answer = client.getresponse()
    assert (answer.status, answer.headers["Retry-After"]) == (503, "7") and b"SlowDown" in answer.read()
    assert "/new" not in server.objects
    client.request("PUT", "/new", b"x")
    assert client.getresponse().read() == b"" and server.objects["/new"] == b"x"
    client.request("GET", "/a")
    answer = client.getresponse()
    assert (answer.status, answer.headers["Retry-After"]) == (429, None) and answer.read()
    assert ask(client, "HEAD") == (500, b"")
    assert proxy.hits == {"status": 3}


def test_who_waits_to_be_told_to_send_a_body_is_told(server: Server, proxy: FaultProxy) -> None:
    proxy.add(Rule(Status(503), "PUT", after=1))
    head = b"PUT /new HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n"
    for said in (b"HTTP/1.1 100 Continue", b"HTTP/1.1 503 Service Unavailable"):
        with (
            socket.create_connection((proxy.host, proxy.port), timeout=DEADLINE) as asking,
            asking.makefile("rb") as told,
        ):
            asking.sendall(head)
            assert told.readline().strip() == said
            if b"100" in said:
                assert told.readline() == b"\r\n"
                asking.sendall(b"abc")
                assert told.readline().startswith(b"HTTP/1.1 200")
    assert server.objects["/new"] == b"abc"


def test_a_request_is_dropped_or_its_answer_is_lost(
    client: http.client.HTTPConnection, proxy: FaultProxy, server: Server
) -> None:
    proxy.add(Rule(Drop(), "PUT"), Rule(Lose(), "PUT", after=1))
    with pytest.raises(ConnectionResetError):
        ask(client, "PUT", "/new", b"x")
    client.close()
    assert "/new" not in server.objects
    with pytest.raises(ConnectionResetError):
        ask(client, "PUT", "/new", b"x")
    client.close()
    assert server.objects["/new"] == b"x"
    assert ask(client, target="/new") == (200, b"x")
    assert proxy.hits == {"drop": 1, "lose": 1} and proxy.seen["PUT", 0] == 2


@pytest.mark.parametrize("target", ["/a", "/chunked/a"])
@pytest.mark.parametrize("at", [0, 1, 70_000, len(DATA) - 1])
def test_an_answer_ends_too_early(client: http.client.HTTPConnection, proxy: FaultProxy, target: str, at: int) -> None:
    proxy.add(Rule(Cut(at)))
    client.request("GET", target)
    answer = client.getresponse()
    with pytest.raises(http.client.IncompleteRead) as cut:
        answer.read()
    assert cut.value.partial == DATA[: len(cut.value.partial)] and len(cut.value.partial) <= at
    if target == "/a":
        assert len(cut.value.partial) == at
    client.close()
    assert ask(client, target=target) == (200, DATA)


def test_a_request_ends_too_early(client: http.client.HTTPConnection, proxy: FaultProxy, server: Server) -> None:
    proxy.add(Rule(CutRequest(1000), "PUT"))
    with pytest.raises((ConnectionResetError, BrokenPipeError)):
        ask(client, "PUT", "/new", DATA)
    assert proxy.hits == {"cut-request": 1} and server.objects.get("/new") != DATA


@pytest.mark.parametrize(("at", "place"), [(0, 0), (100_000, 100_000), (-1, len(DATA) - 1)])
def test_one_bit_is_another(
    client: http.client.HTTPConnection, proxy: FaultProxy, server: Server, at: int, place: int
) -> None:
    wrong = DATA[:place] + bytes([DATA[place] ^ 0x10]) + DATA[place + 1 :]
    proxy.add(Rule(Flip(at), times=2), Rule(FlipRequest(at), "PUT"))
    assert ask(client) == (200, wrong) and ask(client, target="/chunked/a") == (200, wrong)
    assert ask(client) == (200, DATA)
    assert ask(client, "PUT", "/new", DATA) == (200, b"") and server.objects["/new"] == wrong


@pytest.mark.parametrize("shift", [1, 4096, -50])
def test_a_wrong_range_comes_as_if_it_were_the_right_one(
    client: http.client.HTTPConnection, proxy: FaultProxy, shift: int
) -> None:
    proxy.add(Rule(WrongRange(shift), ranged=True))
    assert ask(client) == (200, DATA), "it has no range"
    client.request("GET", "/a", headers={"Range": "bytes=100-299"})
    answer = client.getresponse()
    assert answer.headers["Content-Range"] == f"bytes 100-299/{len(DATA)}"
    asked = DATA[100:300]
    assert answer.read() == asked[shift % 200 :] + asked[: shift % 200]


def test_a_range_is_ignored(client: http.client.HTTPConnection, proxy: FaultProxy) -> None:
    proxy.add(Rule(Whole(), times=None))
    whole = bytes(100) + DATA[100:300] + bytes(len(DATA) - 300)
    for target in ("/a", "/chunked/a"):
        assert ask(client, target=target, Range="bytes=100-299") == (200, whole)
        assert ask(client, target=target) == (200, DATA) and ask(client, "HEAD", target)[0] == 200


def test_an_older_answer_comes_again(client: http.client.HTTPConnection, proxy: FaultProxy, server: Server) -> None:
    proxy.remember = True
    ranges = {"Range": "bytes=0-2"}
    assert (
        ask(client)[0] == 200
        and ask(client, **ranges) == (206, DATA[:3])
        and ask(client, target="/chunked/a")[0] == 200
    )
    server.objects.update({"/a": b"newer", "/chunked/a": b"newer", "/b": b"newer"})
    rule = Rule(Older(), times=None)
    proxy.add(rule)
    assert ask(client) == (200, DATA) and ask(client, target="/chunked/a") == (200, DATA)
    assert ask(client, **ranges) == (206, DATA[:3])
    assert ask(client, target="/b") == (404, b""), "it was not there yet"
    proxy.heal()
    assert ask(client) == (200, b"newer") and ask(client, target="/b") == (200, b"newer")
    assert rule.hits == 4


def test_an_answer_that_stalls_or_trickles_ends_with_the_clients_patience(proxy: FaultProxy) -> None:
    for fault, first in ((Stall(10), 10), (Stall(1), 1), (Trickle(0.001), 50)):
        proxy.add(Rule(fault))
        client = http.client.HTTPConnection(proxy.host, proxy.port, timeout=DEADLINE)
        client.request("GET", "/a")
        answer = client.getresponse()
        assert answer.read(first) == DATA[:first]
        assert client.sock is not None
        client.sock.settimeout(0.05)
        if isinstance(fault, Stall):
            with pytest.raises(TimeoutError):
                answer.read(1)
        client.close()
    assert proxy.hits == {"stall": 2, "trickle": 1}


def test_no_answer_comes(proxy: FaultProxy, server: Server) -> None:
    proxy.add(Rule(Stall()))
    client = http.client.HTTPConnection(proxy.host, proxy.port, timeout=0.3)
    with pytest.raises(TimeoutError):
        ask(client, "PUT", "/new", b"x")
    client.close()
    assert server.objects["/new"] == b"x" and proxy.hits == {"stall": 1}


def test_every_byte_is_another(client: http.client.HTTPConnection, proxy: FaultProxy) -> None:
    proxy.add(Rule(Scramble()))
    status, data = ask(client)
    assert status == 200 and len(data) == len(DATA) and all(a != b for a, b in zip(data, DATA, strict=True))


def test_an_answer_is_late(client: http.client.HTTPConnection, proxy: FaultProxy) -> None:
    proxy.add(Rule(Delay(0.3)))
    began = time.monotonic()
    assert ask(client) == (200, DATA) and time.monotonic() - began >= 0.3


def test_rules_hit_what_they_name_and_add_up(client: http.client.HTTPConnection, proxy: FaultProxy) -> None:
    proxy.add(Rule(Flip(0), "GET", "^/a$", after=1, times=2), Rule(Flip(1), times=None))
    flips = [[a != b for a, b in zip(ask(client)[1][:2], DATA, strict=False)] for _ in range(4)]
    assert flips == [[False, True], [True, True], [True, True], [False, True]]


def test_chance_throws_the_same_dice_again(server: Server) -> None:
    thrown = []
    for seed in (7, 7, 8):
        with FaultProxy(server.server_address[:2], Rule(Status(503), times=None, chance=0.5), seed=seed) as proxy:
            client = http.client.HTTPConnection(proxy.host, proxy.port, timeout=DEADLINE)
            thrown.append([ask(client, "HEAD")[0] for _ in range(20)])
            client.close()
    assert thrown[0] == thrown[1] != thrown[2] and set(thrown[0]) == {200, 503}


def test_rules_are_read_from_words() -> None:
    rule = Rule.parse("status:code=503,retry_after=1 GET ^/team/ range after=2 times=* chance=0.5")
    assert rule.fault == Status(503, 1) and rule.method == "GET" and rule.target.pattern == "^/team/"
    assert (rule.ranged, rule.after, rule.times, rule.chance) == (True, 2, None, 0.5)
    assert Rule.parse("delay:seconds=0.5").fault == Delay(0.5) and Rule.parse("drop").times == 1
    for words in ("nothing", "cut:by=3", "drop after=x", "drop ("):
        with pytest.raises((ValueError, re.error)):
            Rule.parse(words)
    assert set(FAULTS) <= set(
        re.findall(r"^    ([a-z-]+)", str(sys.modules["servers.faultproxy"].__doc__), re.MULTILINE)
    )


def test_it_can_be_run_by_hand(server: Server) -> None:
    host, port = server.server_address[:2]
    words = [
        sys.executable,
        "-m",
        "servers.faultproxy",
        "--upstream",
        f"{host}:{port}",
        "--rule",
        "status:code=503 GET",
    ]
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    tests = Path(__file__).parent.parent
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=environment, cwd=tests) as run:
        try:
            assert run.stdout is not None
            address = run.stdout.readline().split()[0].removeprefix("http://")
            client = http.client.HTTPConnection(address, timeout=DEADLINE)
            assert [ask(client)[0] for _ in range(2)] == [503, 200]
            assert run.stdout.readline().split() == ["GET", "/a", "503", "status"]
            client.close()
        finally:
            run.kill()


# -- any TCP service


class Echo:
    """A service that sends back what it gets."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = self._listener.getsockname()[:2]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                one, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._echo, args=(one,), daemon=True).start()

    def _echo(self, one: socket.socket) -> None:
        with one:
            try:
                while data := one.recv(1 << 16):
                    one.sendall(data)
            except OSError:
                pass

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


@pytest.fixture
def echo() -> Iterator[Echo]:
    made = Echo()
    yield made
    made.close()


def connected(proxy: TcpProxy) -> socket.socket:
    return socket.create_connection((proxy.host, proxy.port), timeout=DEADLINE)


def received(one: socket.socket) -> bytes:
    """All that comes until the connection ends, however it does."""
    data = b""
    try:
        while piece := one.recv(1 << 16):
            data += piece
    except ConnectionError:
        pass
    return data


def test_it_relays_both_ways_and_passes_an_end_on(echo: Echo) -> None:
    with TcpProxy(echo.address) as proxy, connected(proxy) as one:
        one.sendall(DATA[:50_000])
        one.shutdown(socket.SHUT_WR)
        assert received(one) == DATA[:50_000]


def test_a_delay_costs_time_and_no_throughput(echo: Echo) -> None:
    with TcpProxy(echo.address, delay=0.1) as proxy, connected(proxy) as one:
        began = time.monotonic()
        one.sendall(DATA)
        one.shutdown(socket.SHUT_WR)
        assert received(one) == DATA and time.monotonic() - began >= 0.2


def test_a_connection_is_cut_after_so_many_bytes(echo: Echo) -> None:
    with TcpProxy(echo.address) as proxy:
        proxy.cut(Cutting("to server", 10), Cutting("to client", 5))
        for expected in (10, 5, 20):
            with connected(proxy) as one:
                one.sendall(bytes(20))
                if expected == 20:
                    one.shutdown(socket.SHUT_WR)
                assert len(received(one)) <= expected
        assert proxy.cuts == 2 and proxy.connections == 3


def test_a_silent_cut_leaves_the_connection_open(echo: Echo) -> None:
    with TcpProxy(echo.address) as proxy:
        proxy.cut(Cutting("to client", 5, silent=True))
        with connected(proxy) as one:
            one.sendall(b"0123456789")
            assert b"".join(one.recv(1) for _ in range(5)) == b"01234"
            one.settimeout(0.05)
            with pytest.raises(TimeoutError):
                one.recv(1)
            proxy.sever()
            one.settimeout(DEADLINE)
            assert received(one) == b"" and proxy.cuts == 1


@pytest.mark.parametrize("how", ["reset", "silent"])
def test_a_service_that_is_away_and_comes_back(echo: Echo, how: str) -> None:
    with TcpProxy(echo.address) as proxy, connected(proxy) as before:
        before.sendall(b"a")
        assert before.recv(1) == b"a"
        with proxy.away(how):  # type: ignore[arg-type]
            if how == "reset":
                assert received(before) == b""
            with pytest.raises((ConnectionError, TimeoutError)), connected(proxy) as meanwhile:
                meanwhile.settimeout(DEADLINE if how == "reset" else 0.05)
                meanwhile.sendall(b"b")
                if meanwhile.recv(1) == b"":
                    raise ConnectionError
        with connected(proxy) as after:
            after.sendall(b"c")
            assert after.recv(1) == b"c"
