"""GcsUploads: a front of fake-gcs-server that takes uploads as Google's XML API does.

The server has that API for reading, listing and deleting; uploads it takes by the JSON API alone. So they are handed on
as that API wants them: a put as an upload on the same condition, parts as objects that are composed in the
end. Everything else is passed on as it comes.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import http.server
import json
import threading
import uuid
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

_BOUNDARY = uuid.uuid4().hex
_RELATED = (
    b"--BOUNDARY\r\nContent-Type: application/json\r\n\r\n%b\r\n"
    b"--BOUNDARY\r\nContent-Type: application/octet-stream\r\n\r\n%b\r\n--BOUNDARY--\r\n"
).replace(b"BOUNDARY", _BOUNDARY.encode())
_LEFT_OUT = frozenset({"host", "transfer-encoding", "content-length", "connection", "date", "server"})


class GcsUploads:
    """Listens on 127.0.0.1 in front of the server on `port`, until `close`."""

    def __init__(self, port: int) -> None:
        handler = type("Handler", (_Handler,), {"server_port": port, "parts": {}})
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self.port = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Handler(http.server.BaseHTTPRequestHandler):
    server_port: int
    parts: dict[str, dict[int, str]]
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body together: apart, the second waits 40 ms for the first to be acknowledged

    def do_PUT(self) -> None:
        bucket, key, query = self._asked()
        body = self._body()
        condition = self.headers.get("x-goog-if-generation-match")
        if "uploadId" in query:
            upload, number = query["uploadId"][0], int(query["partNumber"][0])
            key, condition = f"{upload}/{number}", None
            self.parts[upload][number] = key
        more = f"&ifGenerationMatch={condition}" if condition is not None else ""
        # Of the server's kinds of upload only this one heeds the condition.
        path = f"/upload/storage/v1/b/{bucket}/o?uploadType=multipart{more}"
        head = {"Content-Type": f"multipart/related; boundary={_BOUNDARY}"}
        name = json.dumps({"name": key}).encode()
        status, _, data = self._ask("POST", path, head, _RELATED % (name, body))
        self._answer(status, _told(data) if status == 200 else {}, b"" if status == 200 else data)

    def do_POST(self) -> None:
        bucket, key, query = self._asked()
        body = self._body()
        if "uploads" in query:
            upload = f"uploads-{uuid.uuid4().hex}"
            self.parts[upload] = {}
            kind = "InitiateMultipartUploadResult"
            text = f"<{kind}><Bucket>{bucket}</Bucket><Key>{key}</Key><UploadId>{upload}</UploadId></{kind}>"
            self._answer(200, {}, text.encode())
        elif "uploadId" in query:
            parts = [name for _, name in sorted(self.parts.pop(query["uploadId"][0]).items())]
            order = {"sourceObjects": [{"name": name} for name in parts], "destination": {}}
            path = f"/storage/v1/b/{bucket}/o/{quote(key, safe='')}/compose"
            status, _, data = self._ask("POST", path, {"Content-Type": "application/json"}, json.dumps(order).encode())
            for name in parts:
                self._ask("DELETE", f"/storage/v1/b/{bucket}/o/{quote(name, safe='')}", {}, b"")
            if status == 200:
                told, kind = _told(data), "CompleteMultipartUploadResult"
                # A composed object has no MD5, as it has none in the cloud: its tag is only a name.
                text = f"<{kind}><ETag>composed-{told['x-goog-generation']}</ETag></{kind}>"
                self._answer(200, {"x-goog-generation": told["x-goog-generation"]}, text.encode())
            else:
                self._answer(status, {}, data)
        else:
            self._pass_on(body)

    def do_DELETE(self) -> None:
        _, _, query = self._asked()
        if "uploadId" in query:
            self.parts.pop(query["uploadId"][0], None)
            self._answer(204, {}, b"")
        else:
            self._pass_on(self._body())

    def do_GET(self) -> None:
        self._pass_on(b"")

    def do_HEAD(self) -> None:
        self._pass_on(b"")

    def log_message(self, format: str, *arguments: object) -> None:
        """Nothing."""

    def _asked(self) -> tuple[str, str, dict[str, list[str]]]:
        parts = urlsplit(self.path)
        bucket, _, key = unquote(parts.path).lstrip("/").partition("/")
        return bucket, key, parse_qs(parts.query, keep_blank_values=True)

    def _body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _pass_on(self, body: bytes) -> None:
        headers = {name: value for name, value in self.headers.items() if name.lower() not in _LEFT_OUT}
        status, told, data = self._ask(self.command, self.path, headers, body)
        self._answer(status, told, data)

    def _ask(self, method: str, path: str, headers: dict[str, str], body: bytes) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.server_port, timeout=120)
        with contextlib.closing(connection):
            try:
                connection.request(method, path, body, headers)
                answer = connection.getresponse()
                return answer.status, dict(answer.getheaders()), answer.read()
            except (OSError, http.client.HTTPException):
                return 503, {}, b""  # the server was killed

    def _answer(self, status: int, headers: dict[str, str], data: bytes) -> None:
        self.send_response(status)
        length = str(len(data))
        for name, value in headers.items():
            if name.lower() not in _LEFT_OUT:
                self.send_header(name, value)
            elif name.lower() == "content-length" and self.command == "HEAD":
                length = value
        self.send_header("Content-Length", length)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)


def _told(data: bytes) -> dict[str, Any]:
    """What the XML API would tell of an object in headers, from what the JSON API says of it."""
    value = json.loads(data)
    digest = base64.b64decode(value.get("md5Hash", "")).hex()
    return {"ETag": f'"{digest}"', "x-goog-generation": str(value["generation"])}
