"""Whether JAX needs to look for a TPU."""

import pytest

from effnetv2_jax.cli.terminal.quiet_libraries import libtpu_is_alone


@pytest.mark.parametrize(
    ("installed", "device", "alone"),
    [
        ({"libtpu"}, None, True),
        ({"libtpu"}, "null", True),
        ({"libtpu"}, "accel0", False),
        ({"libtpu"}, "vfio/0", False),
        ({"libtpu", "jax_plugins"}, None, False),
        (set(), None, False),
    ],
)
def test_only_libtpu_without_its_devices_is_left_out(monkeypatch, tmp_path, installed, device, alone):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name if name in installed else None)
    if device:
        (tmp_path / device).parent.mkdir(exist_ok=True)
        (tmp_path / device).touch()
    assert libtpu_is_alone(tmp_path) is alone
