"""Every test of downloads uses a server of its own on this machine, an empty cache, and no other network."""

import socket

import pytest
from huggingface_hub import constants
from weight_server import WeightServer


@pytest.fixture
def server():
    with WeightServer() as running:
        yield running


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    """Returns the folder of downloaded weights, which is empty. huggingface_hub's cache is empty as well."""
    monkeypatch.setenv("EFFNETV2_JAX_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    proxies = ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY")
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_HUB_OFFLINE", *proxies):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "cache" / "weights"


@pytest.fixture
def hub(server, monkeypatch):
    """The server in place of the Hugging Face Hub."""
    monkeypatch.setenv("HF_ENDPOINT", server.origin)
    return server


@pytest.fixture
def unreachable(monkeypatch):
    """An address on this machine where nothing listens, in place of the hub."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{free.getsockname()[1]}"
    monkeypatch.setenv("HF_ENDPOINT", address)
    return address
