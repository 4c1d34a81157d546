"""Files and folders appear complete or not at all."""

import pytest

from effnetv2_jax.convert.atomic_write import replacing


def fill(path, **files):
    path.mkdir()
    for name, text in files.items():
        (path / name).write_text(text)


def test_a_file_replaces_the_old_one(tmp_path):
    target = tmp_path / "new" / "w"
    for text in ("one", "two"):
        with replacing(target) as temporary:
            temporary.write_text(text)
        assert target.read_text() == text
    assert list(target.parent.iterdir()) == [target]


def test_a_folder_appears_and_keeps_its_other_files(tmp_path):
    target = tmp_path / "folder"
    with replacing(target) as temporary:
        fill(temporary, a="1", b="1")
    (target / "README.md").write_text("mine")
    with replacing(target) as temporary:
        fill(temporary, a="2", b="2")
    assert {file.name: file.read_text() for file in target.iterdir()} == {"a": "2", "b": "2", "README.md": "mine"}
    assert list(tmp_path.iterdir()) == [target]


def test_a_folder_with_folders_in_it_appears(tmp_path):
    with replacing(tmp_path / "folder") as temporary:
        fill(temporary, a="1")
        fill(temporary / "inner", b="2")
    assert (tmp_path / "folder" / "inner" / "b").read_text() == "2"
    assert list(tmp_path.iterdir()) == [tmp_path / "folder"]


@pytest.mark.parametrize("folder", [False, True])
def test_an_error_changes_nothing(tmp_path, folder):
    (tmp_path / "w").write_text("old")

    def work():
        with replacing(tmp_path / "w") as temporary:
            fill(temporary, a="1") if folder else temporary.write_text("half")
            raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        work()
    assert [file.name for file in tmp_path.iterdir()] == ["w"]
    assert (tmp_path / "w").read_text() == "old"
