"""Files of labels in all their forms."""

import json

import pytest

from effnetv2_jax.evaluate.images.label_file import labels_of, read_labels

PATHS = ("b/1.jpg", "a/2.jpg", "b/3.jpg")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("real.json", json.dumps([[7], [], [1, 9]])),
        ("named.json", json.dumps({"1.jpg": 7, "a/2.jpg": [], "3.jpg": ["1", 9]})),
        ("order.txt", "7\n\n1 9\n\n"),
        ("named.csv", "image,label\n3.jpg,1,9\n1.jpg,7\n2.jpg\n"),
        ("named.txt", "3.jpg 1 9\n1.jpg\t7\n2.jpg\n"),
    ],
)
def test_labels_are_read_in_order_or_by_file_name(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    found = labels_of(PATHS, read_labels(tmp_path / name))
    assert list(found) == list(PATHS)
    assert list(found.values()) == [("7",), (), ("1", "9")]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("x.json", "{", "not a file of labels"),
        ("x.json", "3", "a list, or an object"),
        ("x.json", "[1.5]", "1.5 is neither"),
        ("x.txt", "1.jpg 3\n4\n", "but not '4'"),
        ("x.txt", "3\n4\n", "3 images, and labels for 2"),
        ("x.json", '{"1.jpg": 1}', "no labels of 2 of 3 images, such as a/2.jpg"),
    ],
)
def test_wrong_files_are_refused(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=message):
        labels_of(PATHS, read_labels(tmp_path / name))


def test_labels_in_order_need_different_file_names():
    with pytest.raises(ValueError, match=r"1\.jpg occurs twice"):
        labels_of(("a/1.jpg", "b/1.jpg"), [["1"], ["2"]])
