"""The report of an ablation, as files: all figures, and a picture of each table."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Sequence
from pathlib import Path

from etils import epath

from effnetv2_jax.ablation.figures import TableResult, row_figures, verdict_figures
from effnetv2_jax.ablation.folder import AblationFolder
from effnetv2_jax.ablation.pictures import draw_table
from effnetv2_jax.ablation.settings import AblationSettings
from effnetv2_jax.train.run_folder.json_file import write_json

REPORT = "report"
"""The folder within that of an ablation."""


def write_report(
    folder: AblationFolder, settings: AblationSettings, tables: Sequence[TableResult], topology: str
) -> list[epath.Path]:
    """Writes `report.json`, and a picture of each table that has results; returns their paths.

    Args:
      folder: the folder of the ablation.
      settings: its settings.
      tables: the results.
      topology: the TPU slice of the estimates; "" if there are none.

    Raises:
      OSError: if the files cannot be written.
    """
    target = folder.path / REPORT
    target.mkdir(parents=True, exist_ok=True)
    content = {
        "settings": dataclasses.asdict(settings),
        "topology": topology,
        "tables": {
            each.name: {
                "title": each.table.title,
                "rows": row_figures(each),
                "claims": [verdict_figures(verdict) for verdict in each.verdicts],
            }
            for each in tables
        },
    }
    write_json(target / "report.json", content)
    written = [target / "report.json"]
    for each in tables:
        if any(row.values["top1"] for row in each.rows):
            written.append(target / f"{each.name}.png")
            with tempfile.TemporaryDirectory() as local:  # the folder may lie in a bucket
                draw_table(Path(local) / "table.png", each)
                written[-1].write_bytes((Path(local) / "table.png").read_bytes())
    return written
