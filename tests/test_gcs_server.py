"""The stand-in for Google Cloud Storage gives Google's own client what it expects, and fails as it is told."""

import http.client
import json
import urllib.error
import urllib.request

import pytest
from gcs_server import CUT, READ_ONLY, Faults, GcsServer
from google.api_core import exceptions
from google.auth.exceptions import GoogleAuthError
from google.cloud import storage


@pytest.fixture
def server(tmp_path):
    with GcsServer("bucket", folder=tmp_path, page=2) as server:
        yield server


@pytest.fixture
def bucket(server, monkeypatch):
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", server.origin)
    return storage.Client().bucket("bucket")


def upload(bucket, *names):
    for name in names:
        bucket.blob(name).upload_from_string(name.encode())


def call(server, method, target, body=None, **headers):
    """Returns the status and the JSON of an answer."""
    request = urllib.request.Request(server.origin + target, body, headers, method=method)
    try:
        with urllib.request.urlopen(request) as answer:
            return answer.status, json.loads(answer.read() or "{}"), answer.headers
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read() or "{}"), error.headers


def test_objects_are_written_read_and_deleted_and_their_checksums_are_right(bucket):
    """The client checks what it has read against the checksums."""
    upload(bucket, "a/x y.txt")
    assert bucket.exists()
    assert bucket.blob("a/x y.txt").download_as_bytes() == b"a/x y.txt"
    assert bucket.blob("a/x y.txt").download_as_bytes(start=2, end=4) == b"x y"
    assert bucket.get_blob("a/x y.txt").size == 9
    bucket.blob("a/x y.txt").delete()
    assert not bucket.blob("a/x y.txt").exists()
    with pytest.raises(exceptions.NotFound):
        bucket.blob("a/x y.txt").download_as_bytes()


def test_large_objects_arrive_in_parts(bucket, server):
    content = bytes(range(256)) * 4096
    blob = bucket.blob("large", chunk_size=2**18)
    with blob.open("wb", chunk_size=2**18) as file:
        file.write(content)
    assert blob.download_as_bytes() == content
    assert server.requests["google-cloud-storage"] > len(content) / 2**18


def test_a_list_comes_in_pages_and_by_folder(bucket):
    upload(bucket, "a/1", "a/2", "a/b/3", "a/b/4", "a/c/5", "z")
    assert [blob.name for blob in bucket.list_blobs()] == ["a/1", "a/2", "a/b/3", "a/b/4", "a/c/5", "z"]
    listed = bucket.list_blobs(prefix="a/", delimiter="/")
    assert [blob.name for blob in listed] == ["a/1", "a/2"]
    assert listed.prefixes == {"a/b/", "a/c/"}
    assert [blob.name for blob in bucket.list_blobs(start_offset="a/b/4", end_offset="z")] == ["a/b/4", "a/c/5"]


def test_objects_are_copied_and_composed(bucket):
    upload(bucket, "1", "2")
    bucket.rename_blob(bucket.blob("1"), "3")
    bucket.blob("4").compose([bucket.blob("3"), bucket.blob("2")])
    assert {blob.name: blob.download_as_bytes() for blob in bucket.list_blobs()} == {"2": b"2", "3": b"1", "4": b"12"}


def test_an_object_is_written_only_if_its_generation_is_the_expected_one(bucket):
    upload(bucket, "lock")
    with pytest.raises(exceptions.PreconditionFailed):
        bucket.blob("lock").upload_from_string(b"second", if_generation_match=0)
    bucket.blob("lock").upload_from_string(b"third", if_generation_match=bucket.get_blob("lock").generation)
    assert bucket.blob("lock").download_as_bytes() == b"third"


def test_a_resumable_upload_tells_what_has_arrived_and_is_finished_once(server):
    begun = call(server, "POST", "/upload/storage/v1/b/bucket/o?uploadType=resumable&name=n&ifGenerationMatch=0", b"")
    place = begun[2]["Location"].removeprefix(server.origin)
    status, _, headers = call(server, "PUT", place, b"01234", **{"Content-Range": "bytes 0-4/10"})
    assert (status, headers["Range"]) == (308, "bytes=0-4")
    status, _, headers = call(server, "PUT", place, b"", **{"Content-Range": "bytes */10"})
    assert (status, headers["Range"]) == (308, "bytes=0-4")
    for _ in range(2):  # the second request is made by a client that has not got the answer to the first
        status, written, _ = call(server, "PUT", place, b"56789", **{"Content-Range": "bytes 5-9/10"})
        assert (status, written["size"], written["generation"]) == (200, "10", "1")
    assert server.api.buckets["bucket"]["n"].content == b"0123456789"


@pytest.mark.parametrize(
    ("target", "status"),
    [
        ("/storage/v1/b/other/o", 404),
        ("/storage/v1/b/bucket/o/missing", 404),
        ("/bucket/missing", 404),
        ("/storage/v1/b/bucket/acl", 501),
    ],
)
def test_what_is_missing_or_unknown_is_refused(server, target, status):
    assert call(server, "GET", target)[0] == status


def statuses(folder, seed, targets):
    with GcsServer("bucket", folder=folder, faults=Faults(share=0.5, kinds=(503, 429), seed=seed)) as server:
        return {target: [call(server, "GET", target)[0] for _ in range(8)] for target in targets}


def test_faults_depend_on_the_seed_and_the_request_but_not_on_the_order_of_requests(tmp_path):
    targets = [f"/storage/v1/b/bucket/o?prefix={number}" for number in range(4)]
    first = statuses(tmp_path, 0, targets)
    assert statuses(tmp_path, 0, targets[::-1]) == first
    assert statuses(tmp_path, 1, targets) != first
    assert {status for tries in first.values() for status in tries} == {200, 429, 503}


def test_an_answer_that_is_lost_belongs_to_a_request_that_was_carried_out(server):
    server.faults = Faults(share=1.0, kinds=(CUT,), lost=1.0)
    with pytest.raises((http.client.RemoteDisconnected, ConnectionResetError)):
        call(server, "POST", "/upload/storage/v1/b/bucket/o?uploadType=media&name=n", b"content")
    assert server.api.buckets["bucket"]["n"].content == b"content"
    assert server.failed == {CUT: 1}


def test_a_read_only_bucket_is_read_and_refuses_changes(bucket, server):
    upload(bucket, "x")
    server.faults = READ_ONLY
    assert bucket.blob("x").download_as_bytes() == b"x"
    for change in (lambda: upload(bucket, "y"), bucket.blob("x").delete):
        with pytest.raises(exceptions.Forbidden):
            change()


def test_faults_can_be_limited_to_a_client(bucket, server):
    server.faults = Faults(share=1.0, kinds=(401,), clients=("google-cloud-storage",))
    with pytest.raises(GoogleAuthError):
        bucket.exists()
    assert call(server, "GET", "/storage/v1/b/bucket")[0] == 200
