"""Classes of data are matched with those of weights by name, by number or in order."""

import pytest

from effnetv2_jax.evaluate.images.class_map import match_classes

WEIGHTS = ("ant", "bee", "cat", "dog")


def test_classes_are_matched_by_name_in_any_order():
    found = match_classes(("dog", "ant"), WEIGHTS, 4)
    assert (found.columns, found.of_data, found.names, found.note) == ((0, 1, 2, 3), (1, -1, -1, 0), WEIGHTS, "")


def test_the_network_may_choose_from_some_classes_only():
    found = match_classes(("dog", "ant"), WEIGHTS, 4, among=("dog", "cat"))
    assert (found.columns, found.of_data, found.names) == ((2, 3), (-1, 0), ("cat", "dog"))
    found = match_classes(("dog", "ant"), WEIGHTS, 4, among=("dog", "ant"))
    assert (found.columns, found.of_data) == ((0, 3), (1, 0))


def test_names_that_are_numbers_are_indices():
    """The folders of ImageNet-V2 are numbers, which sort as 0, 1, 10, 2."""
    found = match_classes(("0", "1", "10", "2"), tuple(f"n{index}" for index in range(12)), 12)
    assert [found.of_data[index] for index in (0, 1, 10, 2)] == [0, 1, 2, 3]
    assert found.names[10] == "n10"
    assert "numbers" in found.note
    assert match_classes(("0", "1"), (), 4).names == ("0", "1", "2", "3")


def test_the_weights_names_go_before_numbers():
    assert match_classes(("1", "0"), ("1", "0"), 2).of_data == (0, 1)


def test_equally_many_classes_of_other_names_are_taken_in_order_with_a_note():
    found = match_classes(("x", "y", "z", "a"), WEIGHTS, 4)
    assert found.of_data == (0, 1, 2, 3)
    assert "in order" in found.note
    assert match_classes(("x", "y"), (), 2).names == ("x", "y")


def test_classes_of_the_same_name_are_taken_in_order():
    names = ("crane", "crane", "dog")
    found = match_classes(names, names, 3)
    assert (found.of_data, found.names, found.note) == ((0, 1, 2), names, "")


@pytest.mark.parametrize(
    ("data", "weights", "message"),
    [
        (
            ("dog", "eel", "fly", "gnu", "hen"),
            WEIGHTS,
            r"4 classes and the data has 5, .* 'eel', 'fly', 'gnu' and 1 more",
        ),
        (("dog", "ant"), (), r"do not record the names of their classes, so give --class-names"),
        (("1", "01", "7"), (), "lack '1', '01', '7'"),
    ],
)
def test_classes_that_cannot_be_matched_are_named(data, weights, message):
    with pytest.raises(ValueError, match=message):
        match_classes(data, weights, 4)


def test_classes_to_choose_from_that_the_weights_lack_are_named():
    with pytest.raises(ValueError, match=r"lack classes .* 'yak'"):
        match_classes(("dog",), WEIGHTS, 4, among=("yak",))
