"""The part of the JSON and XML API of Google Cloud Storage that the clients of a run use, on objects in memory.

Source: https://cloud.google.com/storage/docs/json_api/v1 and https://cloud.google.com/storage/docs/xml-api
"""

from __future__ import annotations

import base64
import dataclasses
import datetime as dt
import email
import email.policy
import hashlib
import itertools
import json
import re
import threading
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

import google_crc32c

_PAGE = 1000  # the most items of a list in one answer


@dataclasses.dataclass(frozen=True)
class Request:
    """A request: its target is the path with the query, its headers' names are in lower case."""

    method: str
    target: str
    headers: Mapping[str, str] = dataclasses.field(default_factory=dict)
    body: bytes = b""


@dataclasses.dataclass(frozen=True)
class Answer:
    status: int
    body: bytes = b""
    headers: Mapping[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class StoredObject:
    content: bytes
    generation: int
    content_type: str
    updated: str
    crc32c: str
    md5: str


@dataclasses.dataclass
class _Upload:
    """A resumable upload in progress: what arrived so far, and what finishing it needs."""

    bucket: str
    name: str
    query: Mapping[str, str]
    content_type: str
    content: bytearray = dataclasses.field(default_factory=bytearray)
    answer: Answer | None = None


class _Refused(Exception):
    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.answer = error(status, reason)


def error(status: int, reason: str) -> Answer:
    """Returns an error as Google Cloud Storage words it."""
    return _json(
        {"error": {"code": status, "message": reason, "errors": [{"message": reason, "reason": reason}]}}, status
    )


def _json(content: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Answer:
    return Answer(status, json.dumps(content).encode(), {"Content-Type": "application/json"} | dict(headers or {}))


class BucketApi:
    """Buckets in memory, changed by requests. It may be called from many threads."""

    def __init__(self, *buckets: str, page: int = _PAGE) -> None:
        self.buckets: dict[str, dict[str, StoredObject]] = {name: {} for name in buckets}
        self._page = page
        self._uploads: dict[str, _Upload] = {}
        self._generations = itertools.count(1)
        self._lock = threading.RLock()
        bucket, name = r"/b/(?P<bucket>[^/]+)", r"/o/(?P<name>[^/]+)"
        target = bucket.replace(">", "_2>") + name.replace(">", "_2>")
        self._routes: list[tuple[str, str, Callable[..., Answer]]] = [
            ("GET", rf"/storage/v1{bucket}", self._bucket),
            ("GET", rf"/storage/v1{bucket}/o", self._list),
            ("GET", rf"/storage/v1{bucket}{name}", self._get),
            ("DELETE", rf"/storage/v1{bucket}{name}", self._delete),
            ("POST", rf"/storage/v1{bucket}{name}/(?:rewriteTo|copyTo){target}", self._copy),
            ("POST", rf"/storage/v1{bucket}{name}/compose", self._compose),
            ("POST", rf"/upload/storage/v1{bucket}/o", self._upload),
            ("PUT", rf"/upload/storage/v1{bucket}/o", self._resume),
            ("GET", rf"/download/storage/v1{bucket}{name}", self._media),
            ("GET", r"/(?!storage/|upload/|download/)(?P<bucket>[^/]+)/(?P<name>.+)", self._media),
        ]

    def answer(self, request: Request) -> Answer:
        """Carries out a request."""
        url = urlsplit(request.target)
        query = {key: values[-1] for key, values in parse_qs(url.query, keep_blank_values=True).items()}
        for method, pattern, function in self._routes:
            match = re.fullmatch(pattern, url.path)
            if match and method == request.method:
                names = {key: unquote(value) for key, value in match.groupdict().items()}
                with self._lock:
                    try:
                        return function(request, query, **names)
                    except _Refused as refused:
                        return refused.answer
        return error(501, f"{request.method} {url.path} is not part of the stand-in")

    def _objects(self, bucket: str) -> dict[str, StoredObject]:
        if bucket not in self.buckets:
            raise _Refused(404, "The specified bucket does not exist.")
        return self.buckets[bucket]

    def _found(self, bucket: str, name: str) -> StoredObject:
        found = self._objects(bucket).get(name)
        if found is None:
            raise _Refused(404, f"No such object: {bucket}/{name}")
        return found

    def _check(self, bucket: str, name: str, query: Mapping[str, str]) -> None:
        """Checks the condition on the generation of an object, which is 0 if there is no object."""
        found = self._objects(bucket).get(name)
        generation = found.generation if found else 0
        if generation != int(query.get("ifGenerationMatch", generation)):
            raise _Refused(412, "At least one of the pre-conditions you specified did not hold.")
        if "ifGenerationNotMatch" in query and generation == int(query["ifGenerationNotMatch"]):
            raise _Refused(304, "Not Modified")

    def _write(self, bucket: str, name: str, content: bytes, content_type: str, query: Mapping[str, str]) -> Answer:
        self._check(bucket, name, query)
        now = dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        crc = base64.b64encode(google_crc32c.value(content).to_bytes(4, "big")).decode()
        md5 = base64.b64encode(hashlib.md5(content, usedforsecurity=False).digest()).decode()
        stored = StoredObject(content, next(self._generations), content_type, now, crc, md5)
        self._objects(bucket)[name] = stored
        return _json(_resource(bucket, name, stored))

    def _bucket(self, _request: Request, _query: Mapping[str, str], bucket: str) -> Answer:
        self._objects(bucket)
        return _json(
            {"kind": "storage#bucket", "id": bucket, "name": bucket, "location": "US", "storageClass": "STANDARD"}
        )

    def _list(self, _request: Request, query: Mapping[str, str], bucket: str) -> Answer:
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
        start, end = query.get("startOffset", ""), query.get("endOffset", "")
        entries: dict[str, StoredObject | None] = {}  # None for a common prefix
        for name, stored in sorted(self._objects(bucket).items()):
            if not name.startswith(prefix) or name < start or (end and name >= end):
                continue
            head, found, _ = name[len(prefix) :].partition(delimiter) if delimiter else (name, "", "")
            if found:
                entries[prefix + head + delimiter] = None
            if not found or (query.get("includeTrailingDelimiter") == "true" and name == prefix + head + delimiter):
                entries[name] = stored
        rest = [name for name in entries if name > query.get("pageToken", "")]
        page = rest[: min(int(query.get("maxResults", self._page)), self._page)]
        listed = {
            "kind": "storage#objects",
            "items": [_resource(bucket, name, entries[name]) for name in page if entries[name]],
            "prefixes": [name for name in page if not entries[name]],
            "nextPageToken": page[-1] if len(rest) > len(page) else "",
        }
        return _json({key: value for key, value in listed.items() if value})

    def _get(self, request: Request, query: Mapping[str, str], bucket: str, name: str) -> Answer:
        if query.get("alt") == "media":
            return self._media(request, query, bucket, name)
        stored = self._found(bucket, name)
        self._check(bucket, name, query)
        return _json(_resource(bucket, name, stored))

    def _media(self, request: Request, query: Mapping[str, str], bucket: str, name: str) -> Answer:
        stored = self._found(bucket, name)
        self._check(bucket, name, query)
        size = len(stored.content)
        headers = {
            "Content-Type": stored.content_type,
            "Last-Modified": _http_date(stored.updated),
            "X-Goog-Generation": str(stored.generation),
            "X-Goog-Stored-Content-Length": str(size),
        }
        wanted = re.fullmatch(r"bytes=(\d*)-(\d*)", request.headers.get("range", ""))
        if not wanted:
            return Answer(200, stored.content, headers | {"X-Goog-Hash": f"crc32c={stored.crc32c},md5={stored.md5}"})
        first = int(wanted[1]) if wanted[1] else max(0, size - int(wanted[2]))
        last = min(int(wanted[2]), size - 1) if wanted[1] and wanted[2] else size - 1
        if first >= size:
            return Answer(416, b"", {"Content-Range": f"bytes */{size}"})
        return Answer(
            206, stored.content[first : last + 1], headers | {"Content-Range": f"bytes {first}-{last}/{size}"}
        )

    def _delete(self, _request: Request, query: Mapping[str, str], bucket: str, name: str) -> Answer:
        self._found(bucket, name)
        self._check(bucket, name, query)
        del self._objects(bucket)[name]
        return Answer(204)

    def _copy(
        self, request: Request, query: Mapping[str, str], bucket: str, name: str, bucket_2: str, name_2: str
    ) -> Answer:
        stored = self._found(bucket, name)
        copied = self._write(bucket_2, name_2, stored.content, stored.content_type, query)
        if "/copyTo/" in request.target:
            return copied
        size = str(len(stored.content))
        progress = {"kind": "storage#rewriteResponse", "done": True, "totalBytesRewritten": size, "objectSize": size}
        return _json(progress | {"resource": json.loads(copied.body)})

    def _compose(self, request: Request, query: Mapping[str, str], bucket: str, name: str) -> Answer:
        parts = [self._found(bucket, source["name"]) for source in json.loads(request.body)["sourceObjects"]]
        return self._write(bucket, name, b"".join(part.content for part in parts), parts[0].content_type, query)

    def _upload(self, request: Request, query: Mapping[str, str], bucket: str) -> Answer:
        content_type = request.headers.get("content-type", "application/octet-stream")
        if query["uploadType"] == "media":
            return self._write(bucket, query["name"], request.body, content_type, query)
        if query["uploadType"] == "multipart":
            described, content = _parts(content_type, request.body)
            name = json.loads(described.get_payload(decode=True)).get("name") or query["name"]
            return self._write(bucket, name, content.get_payload(decode=True), content.get_content_type(), query)
        described = json.loads(request.body or "{}")
        name = query.get("name") or described["name"]
        content_type = request.headers.get("x-upload-content-type", "application/octet-stream")
        number = f"{len(self._uploads)}"
        self._objects(bucket)
        self._uploads[number] = _Upload(bucket, name, query, content_type)
        host = request.headers["x-stand-in-origin"]
        place = f"{host}/upload/storage/v1/b/{quote(bucket)}/o?uploadType=resumable&upload_id={number}"
        return Answer(200, b"", {"Location": place})

    def _resume(self, request: Request, query: Mapping[str, str], bucket: str) -> Answer:
        """Takes a part of a resumable upload, or tells how much of it has arrived."""
        upload = self._uploads.get(query.get("upload_id", ""))
        if upload is None or upload.bucket != bucket:
            return error(404, "There is no such upload.")
        if upload.answer:
            return upload.answer
        span = re.fullmatch(r"bytes (?:(\d+)-(\d+)|\*)/(\d+|\*)", request.headers.get("content-range", ""))
        first = int(span[1]) if span and span[1] else len(upload.content)
        if first > len(upload.content):
            return error(503, "A part of the upload is missing.")
        upload.content[first:] = request.body
        total = None if span and span[3] == "*" else int(span[3]) if span else len(upload.content)
        if total is None or len(upload.content) < total:
            arrived = {"Range": f"bytes=0-{len(upload.content) - 1}"} if upload.content else {}
            return Answer(308, b"", arrived)
        upload.answer = self._write(
            upload.bucket, upload.name, bytes(upload.content), upload.content_type, upload.query
        )
        return upload.answer


def _parts(content_type: str, body: bytes) -> list[Any]:
    """Returns the parts of a message of several parts."""
    head = f"Content-Type: {content_type}\r\nMIME-Version: 1.0\r\n\r\n".encode()
    return list(email.message_from_bytes(head + body, policy=email.policy.HTTP).iter_parts())


def _http_date(time: str) -> str:
    return dt.datetime.fromisoformat(time).strftime("%a, %d %b %Y %H:%M:%S GMT")


def _resource(bucket: str, name: str, stored: StoredObject) -> dict[str, Any]:
    """Returns what the API tells of an object."""
    return {
        "kind": "storage#object",
        "id": f"{bucket}/{name}/{stored.generation}",
        "name": name,
        "bucket": bucket,
        "generation": str(stored.generation),
        "metageneration": "1",
        "contentType": stored.content_type,
        "size": str(len(stored.content)),
        "md5Hash": stored.md5,
        "crc32c": stored.crc32c,
        "etag": str(stored.generation),
        "timeCreated": stored.updated,
        "updated": stored.updated,
    }
