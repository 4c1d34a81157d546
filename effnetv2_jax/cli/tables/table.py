"""Tables with a line for each of the objects that a command would print as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import rich.box
import rich.table

# Column title → the key of the value, its format and, optionally, a factor to multiply it by.
Columns = Mapping[str, tuple[Any, ...]]


def make_table(rows: Sequence[Mapping[str, Any]], columns: Columns, title: str | None = None) -> rich.table.Table:
    """Returns a table with a line for each of `rows`.

    A column that no row has a value for is left out; a missing value is shown as a dash. In a narrow terminal, the text
    of the first column takes several lines.
    """
    table = rich.table.Table(title=title, box=rich.box.SIMPLE_HEAD, padding=(0, 1, 0, 0), title_justify="left")
    shown = {heading: column for heading, column in columns.items() if any(column[0] in row for row in rows)}
    for place, heading in enumerate(shown):
        table.add_column(heading, justify="right", no_wrap=place > 0)
    for row in rows:
        table.add_row(*(_cell(row, *column) for column in shown.values()))
    return table


def _cell(row: Mapping[str, Any], key: str, form: str, scale: float = 1) -> str:
    if key not in row:
        return "–"
    return form.format(row[key] * scale if scale != 1 else row[key])
