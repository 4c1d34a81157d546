import pytest
import safetensors.numpy
from golden import reference

from effnetv2_jax.convert.weights import save_variables


@pytest.fixture(scope="session")
def tiny():
    """The variables of the tiny network with ten classes."""
    return reference.official_variables(reference.TINY, 10)


@pytest.fixture
def saved(tmp_path, tiny):
    """A flax file."""
    save_variables(tmp_path / "w.safetensors", tiny, reference.TINY)
    return tmp_path / "w.safetensors"


@pytest.fixture
def timm_file(tmp_path, tiny):
    """A timm file as downloaded: without a provenance."""
    path = tmp_path / "timm.safetensors"
    save_variables(path, tiny, reference.TINY, target="timm")
    safetensors.numpy.save_file(safetensors.numpy.load_file(path), path)
    return path
