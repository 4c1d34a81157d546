"""Downloads of single files: whole, checked and resumed, from a server that fails."""

import hashlib

import numpy as np
import pytest
from weight_server import Fault

from effnetv2_jax.pretrained import https_download
from effnetv2_jax.pretrained.https_download import download

CONTENT = np.random.default_rng(0).bytes(300_000)
SHA256 = f"sha256:{hashlib.sha256(CONTENT).hexdigest()[:8]}"
MD5 = f"md5:{hashlib.md5(CONTENT).hexdigest()}"


@pytest.fixture
def fetch(tmp_path):
    """Downloads into an empty folder, checks that the whole file and nothing else is there, and returns its content."""

    def run(url, checksum=""):
        download(url, tmp_path / "d/w.bin", checksum=checksum, pause=0.01)
        assert sorted(path.name for path in (tmp_path / "d").iterdir()) == [".w.bin.lock", "w.bin"]
        return (tmp_path / "d/w.bin").read_bytes()

    run.path = tmp_path / "d/w.bin"
    return run


@pytest.mark.parametrize("checksum", ["", SHA256, MD5])
def test_a_file_is_downloaded_once(server, fetch, checksum):
    url = server.serve("w.bin", CONTENT)
    assert fetch(url, checksum) == CONTENT
    assert fetch(url, checksum) == CONTENT
    assert server.requests == ["GET /files/w.bin"]


def test_a_redirect_is_followed(server, fetch):
    server.serve("w.bin", CONTENT)
    assert fetch(f"{server.origin}/moved/w.bin", SHA256) == CONTENT


def test_a_cut_connection_is_resumed_where_it_ended(server, fetch):
    server.fail("w.bin", Fault(cut=100_000), Fault(status=503), Fault(cut=50_000), Fault())
    assert fetch(server.serve("w.bin", CONTENT), MD5) == CONTENT
    assert server.ranges == ["bytes=100000-", "bytes=150000-"]


def test_another_process_goes_on_where_one_ended(server, fetch):
    url = server.serve("w.bin", CONTENT)
    server.fail("w.bin", Fault(cut=200_000), *[Fault(status=503)] * 5)
    with pytest.raises(ConnectionError, match=r"w\.bin cannot be downloaded: the server answers 503"):
        fetch(url)
    assert not fetch.path.exists()
    assert fetch(url, MD5) == CONTENT
    assert server.ranges[-1] == "bytes=200000-"


def test_a_file_that_changed_meanwhile_is_downloaded_from_its_start(server, fetch):
    url = server.serve("w.bin", CONTENT[::-1])
    server.fail("w.bin", Fault(cut=200_000), *[Fault(status=503)] * 5)
    with pytest.raises(ConnectionError):
        fetch(url)
    server.serve("w.bin", CONTENT)
    assert fetch(url, MD5) == CONTENT


def test_a_server_without_ranges_sends_the_whole_file_again(server, fetch):
    server.fail("w.bin", Fault(cut=100_000), Fault(ignore_range=True))
    assert fetch(server.serve("w.bin", CONTENT), MD5) == CONTENT


def test_a_slow_server_is_waited_for_as_long_as_bytes_come(server, fetch, monkeypatch):
    monkeypatch.setattr(https_download, "_SECONDS", 1.0)
    server.fail("w.bin", Fault(seconds=0.3))
    assert fetch(server.serve("w.bin", CONTENT), MD5) == CONTENT
    assert len(server.requests) == 1


def test_a_server_that_falls_silent_is_asked_again(server, fetch, monkeypatch):
    monkeypatch.setattr(https_download, "_SECONDS", 0.2)
    server.fail("w.bin", Fault(seconds=1.0))
    assert fetch(server.serve("w.bin", CONTENT), MD5) == CONTENT
    assert len(server.requests) > 1


@pytest.mark.parametrize("checksum", ["sha256:00000000", "md5:" + 32 * "0"])
def test_a_file_with_another_checksum_is_refused_and_not_kept(server, fetch, checksum):
    url = server.serve("w.bin", CONTENT)
    with pytest.raises(OSError, match=rf"{url} is not the file that .* describes: its \w+ is \w+ instead of 0"):
        fetch(url, checksum)
    assert [path.name for path in fetch.path.parent.iterdir()] == [".w.bin.lock"]


def test_the_checksum_that_google_cloud_storage_states_is_compared(server, fetch):
    url = server.serve("w.bin", CONTENT, like_google=True)
    server.files["w.bin"] = CONTENT[::-1]
    with pytest.raises(OSError, match="its crc32c is"):
        fetch(url)
    server.serve("w.bin", CONTENT, like_google=True)
    assert fetch(url) == CONTENT


@pytest.mark.parametrize(
    ("status", "kind", "reason"),
    [
        (404, FileNotFoundError, "no such file"),
        (401, PermissionError, "credentials"),
        (403, PermissionError, "refuses"),
        (400, OSError, "400"),
    ],
)
def test_a_refusal_is_final(server, fetch, status, kind, reason):
    url = server.serve("w.bin", CONTENT)
    server.fail("w.bin", Fault(status=status))
    with pytest.raises(kind, match=f"{url}: the server .*{reason}"):
        fetch(url)
    assert len(server.requests) == 1


def test_an_unreachable_server_is_named(fetch, unreachable):
    with pytest.raises(ConnectionError, match=rf"{unreachable}/w\.bin cannot be downloaded: .*refused"):
        fetch(f"{unreachable}/w.bin")


def test_a_file_that_is_too_large_is_refused(server, fetch, monkeypatch):
    monkeypatch.setattr(https_download, "MAX_BYTES", 1000)
    with pytest.raises(OSError, match="limit is 1 kB"):
        fetch(server.serve("w.bin", CONTENT))


def test_a_redirect_from_https_to_http_is_refused(monkeypatch, fetch):
    answer = type("Answer", (), {"url": "http://elsewhere", "status": 200, "headers": {}, "close": lambda self: None})
    monkeypatch.setattr("urllib.request.urlopen", lambda *_, **__: answer())
    with pytest.raises(OSError, match="leads to http://elsewhere, which is not encrypted"):
        fetch("https://somewhere/w.bin")
