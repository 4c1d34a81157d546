"""A server on this machine in place of the Hugging Face Hub and of plain file servers, which fails as it is told.

It speaks as much of the hub's protocol as huggingface_hub needs to download files, to list them and to commit new ones.
Source: https://huggingface.co/docs/hub/api, and what huggingface_hub sends.
"""

from __future__ import annotations

import base64
import collections
import contextlib
import dataclasses
import hashlib
import http.server
import json
import re
import threading
import time
from collections.abc import Iterator

import google_crc32c

COMMIT = "0123456789abcdef0123456789abcdef01234567"
TOKEN = "hf_secret"  # opens the repositories in `private`


@dataclasses.dataclass(frozen=True)
class Fault:
    """What goes wrong with one answer.

    Attributes:
      status: an HTTP status in place of the answer; 0 for none.
      cut: the connection ends after this many bytes of the body; None for none.
      seconds: the time before each part of the body.
      ignore_range: the whole file is sent, whatever range was asked for.
    """

    status: int = 0
    cut: int | None = None
    seconds: float = 0.0
    ignore_range: bool = False


class WeightServer:
    """The server. It is a context, in which it runs in threads of this process.

    Attributes:
      repositories: repository → path of a file → its content.
      private: repositories that only `TOKEN` opens; those in `gated` need their owner's consent besides.
      files: path → content of the plain files below `/files/`.
      faults: path → the faults of its next answers, in order.
      headers: path → further headers of a plain file.
      commits: the commits that were uploaded: repository and files.
      requests: method and path of each request.
      ranges: the ranges that were asked for.
    """

    def __init__(self) -> None:
        self.repositories: dict[str, dict[str, bytes]] = {}
        self.private: set[str] = set()
        self.gated: set[str] = set()
        self.files: dict[str, bytes] = {}
        self.headers: dict[str, dict[str, str]] = {}
        self.faults: dict[str, collections.deque[Fault]] = collections.defaultdict(collections.deque)
        self.commits: list[tuple[str, dict[str, bytes]]] = []
        self.requests: list[str] = []
        self.ranges: list[str] = []
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"owner": self}))

    def __enter__(self) -> WeightServer:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def url(self, name: str) -> str:
        """Returns the address of a plain file."""
        return f"{self.origin}/files/{name}"

    def serve(self, name: str, content: bytes, *, like_google: bool = False) -> str:
        """Serves a plain file, and returns its address."""
        self.files[name] = content
        if like_google:
            digest = base64.b64encode(google_crc32c.Checksum(content).digest()).decode()
            self.headers[name] = {"x-goog-hash": f"crc32c={digest}, md5=unused"}
        return self.url(name)

    def fail(self, path: str, *faults: Fault) -> None:
        """Makes the next answers for a path fail."""
        self.faults[path].extend(faults)


class _Handler(http.server.BaseHTTPRequestHandler):
    owner: WeightServer
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._get()

    def do_GET(self) -> None:
        self._get()

    def _get(self) -> None:
        path = self.path.partition("?")[0]
        self.owner.requests.append(f"{self.command} {path}")
        if path.startswith("/files/"):
            name = path.removeprefix("/files/")
            if name not in self.owner.files:
                return self._refuse(404)
            content = self.owner.files[name]
            return self._send(name, content, _etag(content), self.owner.headers.get(name, {}))
        if path.startswith("/moved/"):
            return self._redirect(f"/files/{path.removeprefix('/moved/')}")
        if path.startswith("/cdn/"):
            contents = [c for files in self.owner.repositories.values() for c in files.values()]
            name = path.removeprefix("/cdn/")
            content = next(c for c in contents if hashlib.sha256(c).hexdigest() == name.partition("/")[0])
            return self._send(name.partition("/")[2], content, _etag(content), {})
        if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/tree/.+", path):
            return self._repository(found[1]) and self._list(found[1])
        if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/revision/.+)?", path):
            return self._repository(found[1]) and self._describe(found[1])
        if found := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+|refs%2Fpr%2F\d+)/(.+)", path):
            return self._repository(found[1]) and self._resolve(found[1], found[2], found[3])
        return self._refuse(404)

    def _repository(self, name: str) -> bool:
        """Returns whether the client may read a repository; refuses otherwise, as the hub does."""
        has_token = self.headers.get("Authorization") == f"Bearer {TOKEN}"
        if name not in self.owner.repositories or (name in self.owner.private and not has_token):
            self._refuse(404 if has_token else 401, "RepoNotFound")
        elif name in self.owner.gated:
            self._refuse(403, "GatedRepo")
        else:
            return True
        return False

    def _list(self, name: str) -> None:
        files = self.owner.repositories[name].items()
        self._json(
            [{"type": "file", "path": path, "size": len(c), "oid": hashlib.sha1(c).hexdigest()} for path, c in files]
        )

    def _describe(self, name: str) -> None:
        siblings = [{"rfilename": file} for file in self.owner.repositories[name]]
        self._json({"id": name, "modelId": name, "sha": COMMIT, "siblings": siblings, "private": False})

    def _resolve(self, name: str, revision: str, file: str) -> None:
        files = self.owner.repositories[name]
        if revision not in ("main", "v1", COMMIT):
            return self._refuse(404, "RevisionNotFound")
        if file not in files:
            return self._refuse(404, "EntryNotFound")
        content = files[file]
        if file.endswith((".json", ".md")):
            return self._send(file, content, f'"{hashlib.sha1(content).hexdigest()}"', {"X-Repo-Commit": COMMIT})
        digest = hashlib.sha256(content).hexdigest()
        large = {"X-Linked-ETag": f'"{digest}"', "X-Linked-Size": str(len(content)), "X-Repo-Commit": COMMIT}
        elsewhere = self.owner.origin.replace("127.0.0.1", "localhost")  # large files lie on another host
        return self._redirect(f"{elsewhere}/cdn/{digest}/{file}", large)

    def do_POST(self) -> None:
        path = self.path.partition("?")[0]
        self.owner.requests.append(f"POST {path}")
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self._refuse(401)
        if path == "/api/validate-yaml":
            return self._json({"errors": [], "warnings": []})
        if path == "/api/repos/create":
            asked = json.loads(body)
            name = f"{asked.get('organization') or 'me'}/{asked['name']}"
            if name in self.owner.repositories:
                return self._json({"url": f"{self.owner.origin}/{name}"}, 409)
            self.owner.repositories[name] = {}
            if asked.get("private") or asked.get("visibility") == "private":
                self.owner.private.add(name)
            return self._json({"url": f"{self.owner.origin}/{name}", "name": name, "id": name})
        if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/preupload/.+", path):
            paths = [file["path"] for file in json.loads(body)["files"]]
            return self._json({"files": [{"path": p, "uploadMode": "regular", "shouldIgnore": False} for p in paths]})
        if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/commit/.+", path):
            lines = [json.loads(line) for line in body.splitlines()]
            added = [line["value"] for line in lines if line["key"] == "file"]
            files = {file["path"]: base64.b64decode(file["content"]) for file in added}
            self.owner.repositories[found[1]] |= files
            self.owner.commits.append((found[1], files))
            url = f"{self.owner.origin}/{found[1]}/commit/{COMMIT}"
            return self._json({"success": True, "commitOid": COMMIT, "commitUrl": url, "hookOutput": ""})
        return self._refuse(404)

    def _send(self, name: str, content: bytes, etag: str, more: dict[str, str]) -> None:
        faults = self.owner.faults[name] if self.command == "GET" else None
        fault = faults.popleft() if faults else Fault()
        if fault.status:
            return self._refuse(fault.status)
        start, asked = 0, self.headers.get("Range")
        if asked:
            self.owner.ranges.append(asked)
            start = int(asked.removeprefix("bytes=").partition("-")[0])
        if fault.ignore_range or self.headers.get("If-Range") not in (None, etag):
            start, asked = 0, None
        if start >= len(content) and asked:
            return self._refuse(416)
        body = content[start:]
        self.send_response(206 if asked else 200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", etag)
        self.send_header("Accept-Ranges", "bytes")
        if asked:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        for header, value in more.items():
            self.send_header(header, value)
        self.end_headers()
        if self.command == "GET":
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                for part in _parts(body[: fault.cut]):
                    time.sleep(fault.seconds)
                    self.wfile.write(part)
            self.close_connection = fault.cut is not None
        return None

    def _redirect(self, url: str, headers: dict[str, str] | None = None) -> None:
        self.send_response(302)
        self.send_header("Location", url)
        for header, value in (headers or {}).items():
            self.send_header(header, value)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _json(self, value: object, status: int = 200) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _refuse(self, status: int, code: str = "") -> None:
        self.send_response(status)
        if code:
            self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.end_headers()


def _etag(content: bytes) -> str:
    return f'"{hashlib.md5(content).hexdigest()}"'


def _parts(body: bytes) -> Iterator[bytes]:
    size = max(len(body) // 4, 1)
    yield from (body[start : start + size] for start in range(0, len(body), size))
