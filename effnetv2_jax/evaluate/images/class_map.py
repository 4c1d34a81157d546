"""Which class of the weights each class of the data is."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

_BY_NUMBER = "the names of the data's classes are numbers, which are taken for the indices of the weights' classes"
_IN_ORDER = "the data's classes are taken for the weights' classes in order, since their names do not match"


@dataclasses.dataclass(frozen=True)
class ClassMap:
    """The classes that a network chooses from, and the class of the data that each of them is.

    Attributes:
      columns: for each class that the network chooses from, its index among the weights' classes, ascending.
      of_data: for each of these, the index of the same class of the data; -1 if the data has no such class.
      names: for each of these, its name.
      note: a remark for the user on how the classes were matched; "" if it was by their names.
    """

    columns: tuple[int, ...]
    of_data: tuple[int, ...]
    names: tuple[str, ...]
    note: str = ""


def match_classes(
    data_names: Sequence[str], weights_names: Sequence[str], num_classes: int, among: Sequence[str] = ()
) -> ClassMap:
    """Finds the class of the weights that each class of the data is.

    Classes are matched by their names if the weights have all names of the data. Names that are numbers are otherwise
    taken for the indices of the weights' classes, as in the folders of ImageNet-V2. Otherwise the classes are taken in
    order, if there are equally many.

    Args:
      data_names: the names of the data's classes, in the order of its labels.
      weights_names: the names of the weights' classes, in the order of the logits; () if they are unknown.
      num_classes: number of the weights' classes.
      among: names of the classes that the network chooses from, in the weights' or the data's names; () for all.

    Raises:
      ValueError: if the classes cannot be matched; the message names some.
    """
    indices, note = _indices(data_names, weights_names, num_classes)
    known = dict(zip(weights_names, range(num_classes), strict=False)) | dict(zip(data_names, indices, strict=True))
    missing = [name for name in among if name not in known]
    if missing:
        raise ValueError(f"the weights lack classes that the network has to choose from: {_listed(missing)}")
    columns = sorted({known[name] for name in among}) if among else range(num_classes)
    data_class = {index: number for number, index in enumerate(indices)}
    of_data = tuple(data_class.get(column, -1) for column in columns)
    own = weights_names or {index: name for name, index in zip(data_names, indices, strict=True)}
    names = (own[column] if weights_names or column in data_class else str(column) for column in columns)
    return ClassMap(tuple(columns), of_data, tuple(names), note)


def _indices(data_names: Sequence[str], weights_names: Sequence[str], num_classes: int) -> tuple[list[int], str]:
    """Returns the index of each class of the data among the weights' classes, and a note."""
    by_name = {name: index for index, name in enumerate(weights_names)}
    unique = len(by_name) == len(weights_names) and len(set(data_names)) == len(data_names)
    if unique and by_name.keys() >= set(data_names):
        return [by_name[name] for name in data_names], ""
    if all(name.isdecimal() and int(name) < num_classes for name in data_names):
        numbers = [int(name) for name in data_names]
        if len(set(numbers)) == len(numbers):
            return numbers, _BY_NUMBER if weights_names else ""
    if len(data_names) == num_classes:
        same = tuple(data_names) == tuple(weights_names)  # two classes have the same name
        return list(range(num_classes)), "" if same else _IN_ORDER
    unknown = [name for name in data_names if name not in by_name]
    whose = "" if weights_names else "; the weights do not record the names of their classes, so give --class-names"
    raise ValueError(
        f"the weights have {num_classes:,} classes and the data has {len(data_names):,}, of which the weights lack "
        f"{_listed(unknown)}{whose}"
    )


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - 3:,} more" if len(names) > 3 else ""
    return ", ".join(map(repr, names[:3])) + more
