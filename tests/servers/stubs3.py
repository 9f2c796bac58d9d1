"""StubS3: as much of S3 as one bucket needs, in this process, to be made to answer as no real one would."""

from __future__ import annotations

import hashlib
import http.server
import re
import threading
import uuid
from collections.abc import Callable
from typing import Any, ClassVar
from urllib.parse import parse_qs, unquote, urlsplit

Answer = tuple[int, dict[str, str], bytes]


class StubS3:
    """Objects in memory. `spoil(method, key, data)` may give other bytes to store than those that came, `refuse(method,
    key)` an answer that is given instead. `requests` counts what was asked, by method and key."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.tags: dict[str, str] = {}
        self.spoil: Callable[[str, str, bytes], bytes] = lambda method, key, data: data
        self.refuse: Callable[[str, str], Answer | None] = lambda method, key: None
        self.tag: Callable[[bytes], str] = lambda data: hashlib.md5(data).hexdigest()
        self.conditional = True
        self.requests: list[tuple[str, str]] = []
        self._uploads: dict[str, dict[int, bytes]] = {}
        self._guard = threading.Lock()
        handler = type("Handler", (_Handler,), {"stub": self})
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    environment: ClassVar = {"AWS_ACCESS_KEY_ID": "access", "AWS_SECRET_ACCESS_KEY": "secret", "HOME": "/nonexistent"}

    def url(self, prefix: str = "prefix", **options: str) -> str:
        more = "".join(f"&{key}={value}" for key, value in options.items())
        return f"s3://bucket/{prefix}?endpoint=http://127.0.0.1:{self._server.server_port}{more}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def answer(self, method: str, path: str, headers: Any, body: bytes) -> Answer:
        """The answer to a request for a path with its query."""
        parts = urlsplit(path)
        key = unquote(parts.path).removeprefix("/bucket").lstrip("/")
        query = parse_qs(parts.query, keep_blank_values=True)
        with self._guard:
            self.requests.append((method, key))
            refusal = self.refuse(method, key)
            if refusal is not None:
                return refusal
            if method == "PUT":
                return self._put(key, query, headers, self.spoil(method, key, body))
            if method == "POST":
                return self._post(key, query, body)
            if method == "DELETE":
                self.objects.pop(key, None)
                return 204, {}, b""
            return self._listed(query) if "list-type" in query else self._get(key, headers)

    def _put(self, key: str, query: dict[str, list[str]], headers: Any, data: bytes) -> Answer:
        if "uploadId" in query:
            self._uploads[query["uploadId"][0]][int(query["partNumber"][0])] = data
            return 200, {"ETag": f'"{self.tag(data)}"'}, b""
        if self.conditional and headers.get("If-None-Match") == "*" and key in self.objects:
            return _refused(412, "PreconditionFailed")
        self.objects[key], self.tags[key] = data, self.tag(data)
        return 200, {"ETag": f'"{self.tags[key]}"'}, b""

    def _post(self, key: str, query: dict[str, list[str]], body: bytes) -> Answer:
        if "delete" in query:
            names = re.findall(rb"<Key>([^<]*)</Key>", body)
            for name in names:
                self.objects.pop(name.decode(), None)
            told = b"".join(b"<Deleted><Key>%s</Key></Deleted>" % name for name in names)
            return 200, {}, b"<DeleteResult>%s</DeleteResult>" % told
        if "uploads" in query:
            upload = uuid.uuid4().hex
            self._uploads[upload] = {}
            text = f"<InitiateMultipartUploadResult><UploadId>{upload}</UploadId></InitiateMultipartUploadResult>"
            return 200, {}, text.encode()
        parts = [data for _, data in sorted(self._uploads.pop(query["uploadId"][0]).items())]
        digests = b"".join(hashlib.md5(data).digest() for data in parts)
        self.objects[key] = b"".join(parts)
        self.tags[key] = f"{hashlib.md5(digests).hexdigest()}-{len(parts)}"
        text = (
            f"<CompleteMultipartUploadResult><ETag>&quot;{self.tags[key]}&quot;</ETag></CompleteMultipartUploadResult>"
        )
        return 200, {}, text.encode()

    def _get(self, key: str, headers: Any) -> Answer:
        if key not in self.objects:
            return _refused(404, "NoSuchKey")
        data = self.objects[key]
        told = {"ETag": f'"{self.tags[key]}"', "Last-Modified": "Sat, 28 Nov 2026 09:00:00 GMT"}
        wanted = re.fullmatch(r"bytes=(\d+)-(\d+)", headers.get("Range") or "")
        if wanted is None:
            return 200, told, data
        first, last = int(wanted[1]), min(int(wanted[2]), len(data) - 1)
        if first >= len(data):
            return _refused(416, "InvalidRange")
        return 206, told | {"Content-Range": f"bytes {first}-{last}/{len(data)}"}, data[first : last + 1]

    def _listed(self, query: dict[str, list[str]]) -> Answer:
        prefix = query.get("prefix", [""])[0]
        contents = "".join(
            f"<Contents><Key>{key}</Key><LastModified>2026-11-28T09:00:00.000Z</LastModified><Size>{len(data)}</Size>"
            f"<ETag>{self.tags[key]}</ETag></Contents>"
            for key, data in sorted(self.objects.items())
            if key.startswith(prefix)
        )
        return 200, {}, f"<ListBucketResult><IsTruncated>false</IsTruncated>{contents}</ListBucketResult>".encode()


def refusal(status: int, code: str, message: str = "It is said so.") -> Answer:
    """An answer of S3's that refuses a request."""
    return _refused(status, code, message)


def _refused(status: int, code: str, message: str = "It is said so.") -> Answer:
    return status, {}, f"<Error><Code>{code}</Code><Message>{message}</Message></Error>".encode()


class _Handler(http.server.BaseHTTPRequestHandler):
    stub: StubS3
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body together: apart, the second waits 40 ms for the first to be acknowledged

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        status, headers, data = self.stub.answer(self.command, self.path, self.headers, body)
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _answer

    def log_message(self, format: str, *arguments: object) -> None:
        """Nothing: the tests print what they want to tell."""
