"""Downloads from the Hugging Face Hub, and uploads, against a server that speaks its protocol."""

import hashlib
import re

import numpy as np
import pytest
from weight_server import COMMIT, TOKEN, Fault

from effnetv2_jax.pretrained import hub as our_hub
from effnetv2_jax.pretrained.fetch import fetch_from_hub
from effnetv2_jax.pretrained.hub_address import HubAddress, hub_address

WEIGHTS = np.random.default_rng(0).bytes(300_000)
NAME = "timm/tf_efficientnetv2_s.in1k"
ADDRESS = HubAddress(NAME)


@pytest.fixture
def repository(hub):
    hub.repositories[NAME] = {"model.safetensors": WEIGHTS, "config.json": b'{"architecture": "x"}'}
    return hub


def test_a_folder_is_downloaded_once_with_its_config(repository):
    folder = fetch_from_hub(ADDRESS)
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS
    assert (folder / "config.json").read_bytes() == b'{"architecture": "x"}'
    assert folder.name == COMMIT
    fetch_from_hub(ADDRESS)
    assert sum(request.startswith("GET /cdn") for request in repository.requests) == 1


def test_one_file_at_a_revision_is_downloaded(repository):
    repository.repositories[NAME]["old/w.bin"] = b"old"
    assert fetch_from_hub(hub_address(f"hf://{NAME}/old/w.bin@v1")).read_bytes() == b"old"


def test_a_cut_connection_is_resumed(repository, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda _: None)
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 50_000)
    repository.fail("model.safetensors", Fault(cut=100_000))
    assert (fetch_from_hub(ADDRESS) / "model.safetensors").read_bytes() == WEIGHTS
    assert repository.ranges == ["bytes=100000-"]


@pytest.mark.usefixtures("repository")
def test_a_file_with_another_digest_is_refused_and_removed():
    folder = fetch_from_hub(ADDRESS)
    stored = (folder / "model.safetensors").resolve()
    stored.write_bytes(WEIGHTS[::-1])
    digest = hashlib.sha256(WEIGHTS).hexdigest()
    with pytest.raises(OSError, match=f"{NAME}: model.safetensors is damaged: its sha256 is .* instead of {digest}"):
        fetch_from_hub(ADDRESS)
    assert (fetch_from_hub(ADDRESS) / "model.safetensors").read_bytes() == WEIGHTS


def test_the_cache_serves_without_a_network(repository, monkeypatch, unreachable):
    monkeypatch.setenv("HF_ENDPOINT", repository.origin)
    downloaded = fetch_from_hub(ADDRESS)
    monkeypatch.setattr("time.sleep", lambda _: None)
    monkeypatch.setenv("HF_ENDPOINT", unreachable)
    assert fetch_from_hub(ADDRESS) == downloaded
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    requests = len(repository.requests)
    assert fetch_from_hub(ADDRESS) == downloaded
    assert len(repository.requests) == requests


@pytest.mark.parametrize("offline", [True, False])
def test_without_network_and_cache_the_file_to_put_where_is_named(monkeypatch, unreachable, own_cache, offline):
    if offline:
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("time.sleep", lambda _: None)  # between two attempts
    reason = "the network is switched off by HF_HUB_OFFLINE" if offline else r"the hub cannot be reached \(.*refused\)"
    place = own_cache / "huggingface" / NAME / "model.safetensors"
    url = f"{unreachable}/{NAME}/resolve/main/model.safetensors"
    with pytest.raises(ConnectionError) as error:
        fetch_from_hub(ADDRESS, called="efficientnetv2-s.in1k")
    assert re.fullmatch(
        rf"efficientnetv2-s\.in1k: hf://{NAME}: {reason}, and the cache has no model\.safetensors; "
        rf"without a network, put the file {re.escape(url)} at {re.escape(str(place))}, or give the path of .*",
        str(error.value),
    )
    place.parent.mkdir(parents=True)
    place.write_bytes(WEIGHTS)
    assert fetch_from_hub(ADDRESS) == place.parent


@pytest.mark.parametrize(
    ("address", "kind", "message"),
    [
        ("hf://nobody/nothing", FileNotFoundError, "no such repository, or it is private; .*HF_TOKEN"),
        (f"hf://{NAME}@v9", FileNotFoundError, "no revision 'v9'"),
        (f"hf://{NAME}/other.bin", FileNotFoundError, "no file other.bin; its weights: model.safetensors"),
        ("hf://me/pth", FileNotFoundError, "name one of its files, as in hf://me/pth/w.pth"),
        ("hf://me/gated", PermissionError, "its owner has to grant you access"),
        ("hf://me/private", FileNotFoundError, "no such repository, or it is private"),
    ],
)
def test_what_the_hub_refuses_is_said_in_one_line(repository, address, kind, message):
    repository.repositories |= {"me/pth": {"w.pth": b""}, "me/gated": {}, "me/private": {}}
    repository.gated.add("me/gated")
    repository.private.add("me/private")
    with pytest.raises(kind, match=f"{re.escape(address)}: .*{message}") as error:
        fetch_from_hub(hub_address(address))
    assert "\n" not in str(error.value)


def test_a_token_opens_a_private_repository(repository, monkeypatch):
    repository.private.add(NAME)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert (fetch_from_hub(ADDRESS) / "model.safetensors").read_bytes() == WEIGHTS


def test_a_folder_is_uploaded_in_one_commit(hub, monkeypatch, tmp_path):
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    (tmp_path / "up").mkdir()
    (tmp_path / "up/README.md").write_text("hello")
    our_hub.upload_folder(HubAddress("me/mine"), tmp_path / "up", "Add weights", private=True)
    our_hub.upload_folder(HubAddress("me/mine"), tmp_path / "up", "Add them again", private=True)
    assert hub.commits[0] == ("me/mine", {"README.md": b"hello"})
    assert "me/mine" in hub.private
    assert our_hub.has_file(HubAddress("me/mine"), "README.md")
    assert not our_hub.has_file(HubAddress("me/mine"), "other")
    assert not our_hub.has_file(HubAddress("me/none"), "README.md")


@pytest.mark.usefixtures("hub")
def test_an_upload_without_a_token_says_how_to_log_in(tmp_path):
    (tmp_path / "up").mkdir()
    with pytest.raises(PermissionError, match=r"hf://me/mine: the hub refuses \(401\); log in with `hf auth login`"):
        our_hub.upload_folder(HubAddress("me/mine"), tmp_path / "up", "Add weights", private=False)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("hf://a/b", ("a/b", "", "")),
        ("hf://a/b.c-d@v1", ("a/b.c-d", "", "v1")),
        ("hf://a/b/c/d.pth", ("a/b", "c/d.pth", "")),
        ("hf://a/b/c.pth@refs/pr/3", ("a/b", "c.pth", "refs/pr/3")),
        ("hf://a/b@v1/c.pth", ("a/b", "c.pth", "v1")),
    ],
)
def test_an_address_has_a_repository_a_file_and_a_revision(text, parts):
    address = hub_address(text)
    assert (address.repository, address.file, address.revision) == parts
    assert hub_address(str(address)) == address


@pytest.mark.parametrize(
    "text", ["hf://a", "hf://a/b@", "hf://a/b/", "hf://a/../b", "hf://a/b/c@x/y", "hf://a/b c", "x"]
)
def test_other_texts_are_refused_with_the_forms_of_an_address(text):
    with pytest.raises(ValueError, match=r"no address on the Hugging Face Hub; the forms are hf://OWNER/REPOSITORY"):
        hub_address(text)
