"""The fields of a configuration: their types, allowed values and meanings, as its dataclasses document them."""

from __future__ import annotations

import dataclasses
import inspect
import re
import types
import typing
from collections.abc import Collection, Iterator, Mapping
from typing import Any, Literal, TypeVar

D = TypeVar("D")

_ENTRY = re.compile(r"^  (\w+): (.*)$")


@dataclasses.dataclass(frozen=True)
class ConfigField:
    """A field of a configuration.

    Attributes:
      name: its dotted name, such as `optimizer.clip_norm`.
      type: what its type is called: `float`, or the allowed values of an enumeration.
      choices: the allowed values of an enumeration; empty for other types.
      value: its value.
      meaning: what the documentation of its dataclass writes about it.
    """

    name: str
    type: str
    choices: tuple[str, ...]
    value: Any
    meaning: str


def config_fields(config: Any, prefix: str = "") -> Iterator[ConfigField]:
    """Yields the fields of a configuration, and of the configurations that it is composed of, in order.

    Args:
      config: an instance of a dataclass whose docstring has a section `Attributes:`.
      prefix: precedes the names.
    """
    annotations = typing.get_type_hints(type(config))
    meanings = _meanings(type(config))
    for field in dataclasses.fields(config):
        name, value, annotation = prefix + field.name, getattr(config, field.name), annotations[field.name]
        if dataclasses.is_dataclass(value):
            yield from config_fields(value, name + ".")
        else:
            yield ConfigField(name, type_name(annotation), _choices(annotation), value, meanings.get(field.name, ""))


def check_choices(config: Any, prefix: str = "") -> None:
    """Checks the enumerations of a configuration.

    Raises:
      ValueError: if a field has a value that is not allowed; the message names the field, the value and those allowed.
    """
    for field in config_fields(config, prefix):
        if field.choices and field.value not in field.choices:
            raise ValueError(f"{field.name} must be {field.type}, got {field.value!r}")


def check_types(config: Any, prefix: str = "") -> None:
    """Checks that each field of a configuration, and of those that it is composed of, has a value of its type.

    Raises:
      ValueError: if one has not; the message names the field, its value and its type.
    """
    annotations = typing.get_type_hints(type(config))
    for field in dataclasses.fields(config):
        name, value, annotation = prefix + field.name, getattr(config, field.name), annotations[field.name]
        if dataclasses.is_dataclass(annotation) and isinstance(value, typing.cast(type, annotation)):
            check_types(value, name + ".")
        elif not has_type(value, annotation):
            raise ValueError(f"{name} must be {type_name(annotation)}, got {value!r}")


def from_json(kind: type[D], content: Mapping[str, Any], what: str) -> D:
    """Returns an instance of a dataclass from JSON values of its fields; those that are missing have their defaults.

    Args:
      kind: the dataclass.
      content: name of a field → value; a list stands for a tuple.
      what: what an instance is called in error messages, such as `a search`.

    Raises:
      ValueError: for an unknown field, one that is missing and has no default, or a value of another type.
    """
    fields = {field.name: field for field in dataclasses.fields(typing.cast(Any, kind))}
    if unknown := sorted(content.keys() - fields):
        raise ValueError(f"unknown field {unknown[0]!r} of {what}")
    needed = {name for name, field in fields.items() if field.default is field.default_factory is dataclasses.MISSING}
    if missing := sorted(needed - content.keys()):
        raise ValueError(f"{what} has no {missing[0]}")
    made = kind(**{name: tuple(value) if isinstance(value, list) else value for name, value in content.items()})
    check_types(made)
    return made


def differing(one: Any, other: Any, ignored: Collection[str] = ()) -> list[str]:
    """Returns the names of the fields, except those ignored, in which two instances of a dataclass differ."""
    names = [field.name for field in dataclasses.fields(one)]
    return [name for name in names if name not in ignored and getattr(one, name) != getattr(other, name)]


def has_type(value: Any, annotation: Any) -> bool:
    """Returns whether a value is of a type, as JSON stores it: a list is a tuple, and a whole number may be a float."""
    origin, parts = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Literal:
        return any(value == choice and type(value) is type(choice) for choice in parts)
    if origin in (typing.Union, types.UnionType):
        return any(has_type(value, part) for part in parts)
    if origin is tuple:
        return isinstance(value, list | tuple) and all(has_type(item, parts[0]) for item in value)
    if origin is Mapping:
        return isinstance(value, Mapping)
    if annotation is float:
        return type(value) in (int, float)
    return type(value) is annotation


def _choices(annotation: Any) -> tuple[str, ...]:
    return typing.get_args(annotation) if typing.get_origin(annotation) is Literal else ()


def type_name(annotation: Any) -> str:
    """Returns what a type is called: `float`, `None or float`, `a tuple of int`, or the values of an enumeration."""
    if choices := _choices(annotation):
        return " or ".join(filter(None, [", ".join(map(repr, choices[:-1])), repr(choices[-1])]))
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return " or ".join(sorted(type_name(part) for part in typing.get_args(annotation)))
    if typing.get_origin(annotation) is tuple:
        return f"a tuple of {type_name(typing.get_args(annotation)[0])}"
    if typing.get_origin(annotation) is Mapping:
        return "an object of names and values"
    return "None" if annotation is types.NoneType else str(annotation.__name__)


def _meanings(kind: type) -> dict[str, str]:
    """Returns the entries of the section `Attributes:` of a docstring, each as one line."""
    _, _, section = (inspect.getdoc(kind) or "").partition("Attributes:\n")
    found: dict[str, str] = {}
    name = ""
    for line in section.splitlines():
        if entry := _ENTRY.match(line):
            name = entry[1]
            found[name] = entry[2]
        elif name and line.startswith("    "):
            found[name] += " " + line.strip()
        elif line and not line.startswith(" "):
            break
    return found
