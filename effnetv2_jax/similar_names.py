"""Names that are similar to an unknown one, for error messages."""

import difflib
from collections.abc import Iterable


def did_you_mean(name: str, known: Iterable[str], *, most: int = 1) -> str:
    """Returns `; did you mean NAME?`, with the names that `name` may stand for; "" if there are none.

    Names that end like `name` come first, as in `efficientnetv2-s` for `s`, or `optimizer.clip_norm` for `clip_norm`
    and `optimiser.clip_norm`. Without any, those of similar spelling are taken.

    Args:
      name: the unknown name.
      known: the names that exist.
      most: how many names of similar spelling to propose at most.
    """
    others = [other for other in known if other != name]
    end = name.rpartition(".")[2]
    near = [other for other in others if end and (other == end or other.endswith((f".{end}", f"-{end}")))]
    near = near or difflib.get_close_matches(name, others, n=most)
    return f"; did you mean {' or '.join(near)}?" if near else ""
