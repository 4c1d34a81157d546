"""What the tests of training share."""

import pytest


@pytest.fixture(scope="module", autouse=True)
def data_dir(tmp_path_factory):
    """The folder in which the tests prepare the digits."""
    folder = tmp_path_factory.getbasetemp().parent / "tensorflow_datasets"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TFDS_DATA_DIR", str(folder))
        yield folder
