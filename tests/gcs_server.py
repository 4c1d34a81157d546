"""A bucket for tests: a server on this machine in place of Google Cloud Storage, which fails as often as it is told.

Clients reach it by environment variables: tensorstore and Google's client by its address, and TensorFlow, which knows
only the real addresses, by a proxy that ends TLS with a certificate of its own.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import http.server
import random
import re
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import trustme
from gcs_api import Answer, BucketApi, Request, error

_HOSTS = ("storage.googleapis.com", "www.googleapis.com")
# A part of a client's user agent → its name.
_AGENTS = {
    "tensorstore": "tensorstore",
    "TSL": "tensorflow",
    "gcloud-python": "google-cloud-storage",
}
_REASONS = {
    401: "Invalid Credentials",
    403: "The caller does not have permission",
    429: "The rate of requests to this object is too high",
    503: "We encountered an internal error. Please try again.",
}
CUT, SILENT = 0, -1
"""Faults: a connection that is closed instead of an answer, and one that stays open without an answer."""


@dataclasses.dataclass(frozen=True)
class Faults:
    """Which requests fail, and how.

    Whether a request fails depends on the seed, the request, and how many times it was made before, but not on its
    order among other requests.

    Attributes:
      share: the share of the requests that fail, 0 to 1.
      kinds: the faults to choose from: HTTP statuses, `CUT` and `SILENT`.
      methods: the methods of requests that may fail; a read-only bucket refuses all but GET.
      clients: the clients whose requests may fail.
      lost: the share of the failing requests that are carried out and whose answer alone is lost.
      seconds: the time before each answer.
    """

    share: float = 0.0
    kinds: tuple[int, ...] = (503,)
    methods: tuple[str, ...] = ("GET", "POST", "PUT", "DELETE")
    clients: tuple[str, ...] = ("tensorflow", "tensorstore", "google-cloud-storage", "unknown")
    lost: float = 0.0
    seconds: float = 0.0
    seed: int = 0


NONE = Faults()
READ_ONLY = Faults(share=1.0, kinds=(403,), methods=("POST", "PUT", "DELETE"))


class GcsServer:
    """A server with empty buckets. It is a context, in which it runs in threads of this process.

    Attributes:
      api: the buckets' content.
      faults: which requests fail; it may be replaced at any time.
      requests: how many requests each client has made.
      failed: how many requests have failed in each way.
    """

    def __init__(self, *buckets: str, folder: Path, faults: Faults = NONE, page: int = 1000) -> None:
        self.api = BucketApi(*buckets, page=page)
        self.faults = faults
        self.requests: collections.Counter[str] = collections.Counter()
        self.failed: collections.Counter[int] = collections.Counter()
        self._tries: collections.Counter[tuple[str, str]] = collections.Counter()
        self._lock = threading.Lock()
        self._closing = threading.Event()
        authority = trustme.CA()
        self._authority_file = folder / "authority.pem"
        authority.cert_pem.write_to_path(str(self._authority_file))
        self.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert(*_HOSTS).configure_cert(self.tls)
        self._server = _Server(self)

    def __enter__(self) -> GcsServer:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self._server.shutdown()
        self._server.server_close()

    @property
    def origin(self) -> str:
        """The address of the server."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def environment(self) -> dict[str, str]:
        """Returns the variables that make all clients of a process use this server, without credentials."""
        return {
            "TENSORSTORE_GCS_HTTP_URL": self.origin,  # tensorstore, which Orbax writes arrays with
            "STORAGE_EMULATOR_HOST": self.origin,  # google-cloud-storage, and gcsfs
            "https_proxy": self.origin,  # TensorFlow
            "CURL_CA_BUNDLE": str(self._authority_file),
            "GOOGLE_AUTH_TOKEN_FOR_TESTING": "nobody",
            # No client may find the credentials of whoever runs the tests, or ask the machine for some.
            "GOOGLE_APPLICATION_CREDENTIALS": "",
            "CLOUDSDK_CONFIG": str(self._authority_file.parent),
            "NO_GCE_CHECK": "true",
        }

    def answer(self, request: Request) -> Answer | None:
        """Returns the answer to a request; None cuts the connection."""
        faults, client = self.faults, _client(request)
        with self._lock:
            self.requests[client] += 1
            key = request.method, re.sub(r"upload_id=\d+", "", request.target)
            self._tries[key] += 1
            chance = random.Random(f"{faults.seed} {key} {self._tries[key]}")
        if faults.seconds:
            time.sleep(faults.seconds)
        concerned = request.method in faults.methods and client in faults.clients
        if not concerned or chance.random() >= faults.share:
            return self.api.answer(request)
        kind = chance.choice(faults.kinds)
        with self._lock:
            self.failed[kind] += 1
        if chance.random() < faults.lost:
            self.api.answer(request)
        if kind == SILENT:
            self._closing.wait()
        return None if kind in (CUT, SILENT) else error(kind, _REASONS[kind])


def _client(request: Request) -> str:
    """Returns the name of the client that has made a request."""
    agent = request.headers.get("user-agent", "")
    return next((name for part, name in _AGENTS.items() if part in agent), "unknown")


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, gcs: GcsServer) -> None:
        self.gcs = gcs
        super().__init__(("127.0.0.1", 0), _Handler)

    def handle_error(self, request: object, client_address: object) -> None:
        """Says nothing: clients that were killed leave broken connections."""


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # an answer is sent in one piece
    server: _Server

    def do_CONNECT(self) -> None:
        """Becomes the server that the client wants a tunnel to."""
        self.send_response(200, "Connection established")
        self.end_headers()
        self.wfile.flush()
        self.connection = self.server.gcs.tls.wrap_socket(self.connection, server_side=True)
        self.request = self.connection
        self.rfile = self.connection.makefile("rb", -1)
        self.wfile = self.connection.makefile("wb", -1)
        self.close_connection = False

    def handle_expect_100(self) -> bool:
        super().handle_expect_100()
        self.wfile.flush()
        return True

    def do_GET(self) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        secure = isinstance(self.connection, ssl.SSLSocket)
        headers["x-stand-in-origin"] = f"https://{headers['host']}" if secure else self.server.gcs.origin
        answer = self.server.gcs.answer(Request(self.command, self.path, headers, self._body()))
        if answer is None:
            self.close_connection = True
            with contextlib.suppress(OSError):
                self.connection.shutdown(socket.SHUT_RDWR)
            return
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        if answer.status not in (204, 304):
            self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        self.wfile.write(answer.body)

    do_POST = do_PUT = do_DELETE = do_GET  # noqa: N815

    def _body(self) -> bytes:
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        return b"".join(self._chunks())

    def _chunks(self) -> Iterator[bytes]:
        while size := int(self.rfile.readline().split(b";")[0], 16):
            yield self.rfile.read(size)
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass

    def log_message(self, *_: object) -> None:
        """Writes no log."""
