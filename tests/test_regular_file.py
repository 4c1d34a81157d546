"""What is checked before a file is read."""

import os

import pytest

from effnetv2_jax.regular_file import checked_size


def test_the_size_of_a_file_or_a_link_to_one_is_returned(tmp_path):
    (tmp_path / "a").write_bytes(bytes(5))
    (tmp_path / "b").symlink_to("a")
    assert checked_size(tmp_path / "a", 5) == checked_size(tmp_path / "b", 5) == 5
    with pytest.raises(ValueError, match="a has 5 bytes, and the limit is 4 bytes"):
        checked_size(tmp_path / "a", 4)


def test_what_cannot_be_read_to_its_end_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "endless").symlink_to("/dev/zero")
    for name in ("pipe", "endless"):
        with pytest.raises(ValueError, match=f"{name} is no regular file"):
            checked_size(tmp_path / name, 1 << 40)


def test_a_folder_and_a_missing_file_are_os_errors(tmp_path):
    with pytest.raises(IsADirectoryError):
        checked_size(tmp_path, 1 << 40)
    with pytest.raises(FileNotFoundError):
        checked_size(tmp_path / "nothing", 1 << 40)
