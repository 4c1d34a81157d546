"""The fields of a config that have changed since a run was started last, and which of them may."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Mapping
from typing import Any, NamedTuple

from effnetv2_jax.similar_names import did_you_mean


class Change(NamedTuple):
    """The values of a field at the last start of a run and now."""

    then: Any
    now: Any

    def described(self, name: str) -> str:
        """Returns the change of a field in words, as in `model.remat: () → (0,)`."""
        then, now = (tuple(value) if isinstance(value, list) else value for value in self)
        return f"{name}: {then!r} → {now!r}"


@dataclasses.dataclass(frozen=True)
class ChangeRules:
    """The fields of a config that may change within a run.

    Attributes:
      free: fields that may always change.
      on_request: fields that may change if the user names them.
      above_zero: those of them that may not change from or to 0, because 0 means another kind of state.
    """

    free: frozenset[str]
    on_request: frozenset[str]
    above_zero: frozenset[str]

    def allows_on_request(self, name: str, change: Change) -> bool:
        """Returns whether a field may change in this way if the user names it."""
        return name in self.on_request and (name not in self.above_zero or bool(change.then) == bool(change.now))


_MISSING = "missing"


def changed_fields(saved: Mapping[str, Any], now: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Change]:
    """Returns the changes between the config in a run folder and that of this start, by field.

    Args:
      saved: the run's fields by dotted name.
      now: those of this start.
      defaults: the default of each field. A field that an older version of the program did not have had its default.
    """
    found = {}
    for name in sorted(now.keys() | saved.keys()):
        change = Change(saved.get(name, defaults.get(name, _MISSING)), now.get(name, _MISSING))
        if change.then != change.now:
            found[name] = change
    return found


def check_changes(changes: Mapping[str, Change], rules: ChangeRules, accepted: Collection[str], folder: str) -> None:
    """Checks that only those fields have changed that may.

    Raises:
      ValueError: if others have; the message names them, their values, and how to go on.
    """
    refused = {name: change for name, change in changes.items() if name not in rules.free}
    refused = {
        name: change
        for name, change in refused.items()
        if name not in accepted or not rules.allows_on_request(name, change)
    }
    if not refused:
        return
    possible = ",".join(name for name, change in refused.items() if rules.allows_on_request(name, change))
    flag = f"--accept-changes {possible}"
    ways = ["use another --workdir or the same configuration"]
    if possible:
        everything = len(possible.split(",")) == len(refused)
        ways.append(f"{flag} changes the run from now on" if everything else f"of these, only {flag} is possible")
    described = "; ".join(change.described(name) for name, change in refused.items())
    raise ValueError(
        f"{folder} contains a run with another configuration. Changed: {described}. {'; '.join(ways).capitalize()}"
    )


def check_accepted(
    accepted: Iterable[str],
    changes: Mapping[str, Change],
    rules: ChangeRules,
    known: Collection[str],
    earlier: Collection[str],
) -> None:
    """Checks the names of the fields whose changes the user accepts.

    Args:
      accepted: these names.
      changes: what has changed.
      rules: which fields may change.
      known: the names of all fields.
      earlier: names of fields that have changed at an earlier start of the run. They may be named again, so that a
        command that was stopped can be repeated.

    Raises:
      ValueError: for a name that is unknown, cannot change, or has not changed; the message names the nearest ones.
    """
    for name in accepted:
        if name not in known:
            raise ValueError(f"--accept-changes: unknown field {name!r}{did_you_mean(name, sorted(known))}")
        if name not in rules.on_request | rules.free:
            raise ValueError(
                f"--accept-changes: {name} cannot change within a run, because the saved state or the order of the "
                f"images depends on it{did_you_mean(name, sorted(rules.on_request))}"
            )
        if name not in changes and name not in earlier:
            needed = ", ".join(sorted(changes.keys() & rules.on_request)) or "none"
            raise ValueError(
                f"--accept-changes: {name} has not changed since the last start; fields whose changes it would accept: "
                f"{needed}"
            )
