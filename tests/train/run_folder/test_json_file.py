"""Small files: whole or not at all, and damage is reported with the file's name."""

import os
from pathlib import Path

import pytest
from etils import epath
from fake_bucket import use_as_bucket

from effnetv2_jax.train.run_folder.json_file import read_json, write_json


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, step):
    def fail(*_):
        raise OSError("no space left")

    path = epath.Path(tmp_path) / "config.json"
    write_json(path, {"a": 1})
    monkeypatch.setattr(*((os, "fsync") if step == "fsync" else (Path, "replace")), fail)
    with pytest.raises(OSError, match="no space left"):
        write_json(path, {"a": 2})
    assert read_json(path, dict) == {"a": 1}
    assert [each.name for each in tmp_path.iterdir()] == ["config.json"]


def test_files_in_a_bucket_are_written_and_read(tmp_path, monkeypatch):
    folder = use_as_bucket(tmp_path / "bucket", monkeypatch)
    path = epath.Path("gs://bucket/list.json")
    write_json(path, [1, "é"])
    assert read_json(path, list) == [1, "é"]
    assert [each.name for each in folder.iterdir()] == ["list.json"]


@pytest.mark.parametrize("content", ["", "{", "[1]", '"text"'])
def test_a_damaged_file_is_refused_by_name(tmp_path, content):
    path = epath.Path(tmp_path) / "config.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=r"config\.json is damaged: "):
        read_json(path, dict)
