"""The folder of an evaluation's report: its scores, a table of its classes, and its pictures."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from etils import epath

from effnetv2_jax.evaluate.images.stored_images import stored_images
from effnetv2_jax.evaluate.report.pictures import draw_confusions, draw_page, draw_reliability, mistake_caption
from effnetv2_jax.evaluate.scores import class_scores, confusions, reliability, worst_mistakes
from effnetv2_jax.evaluate.suite import Evaluation
from effnetv2_jax.whole_file import write_whole

_MOST_MISTAKES = 36


def write_reports(folder: epath.Path, evaluations: Sequence[Evaluation]) -> None:
    """Writes `results.json` with a row for each evaluation, and for each a report, in its own folder if there are more.

    A report has `classes.csv`, a row for each class; `reliability.png`, accuracy by confidence; `confusions.png`, the
    most confused pairs of classes; and `mistakes.png`, the mistakes that the network is most certain of.

    Raises:
      OSError: if a file cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for number, evaluation in enumerate(evaluations, 1):
        row = evaluation.row()
        place = folder / _folder_name(number, row) if len(evaluations) > 1 else folder
        rows.append(row | ({"report": place.name} if len(evaluations) > 1 else {}))
        place.mkdir(parents=True, exist_ok=True)
        _write_report(place, evaluation, row)
    write_whole(folder / "results.json", f"{json.dumps(rows, indent=1)}\n".encode())


def _write_report(folder: epath.Path, evaluation: Evaluation, row: Mapping[str, Any]) -> None:
    counted = evaluation.results.counted()
    names = evaluation.candidate.words(evaluation.classes.names)
    title = f"{row['variant']} on {row['data']} at {row['image_size']} px: {row['top1']:.2f} % top-1"
    write_whole(folder / "classes.csv", as_csv(class_scores(counted, evaluation.classes, names)))
    draw_reliability(folder / "reliability.png", reliability(counted.best_probability[:, 0], counted.right), title)
    draw_confusions(folder / "confusions.png", confusions(counted), names, title)
    worst = counted.only(worst_mistakes(counted, _MOST_MISTAKES))
    images = stored_images(evaluation.data, worst.names.tolist())
    captions = [
        mistake_caption(" / ".join(names[k] for k in own if k >= 0), names[best[0]], probability[0])
        for own, best, probability in zip(worst.labels, worst.best, worst.best_probability, strict=True)
    ]
    draw_page(folder / "mistakes.png", [images[name] for name in worst.names.tolist()], captions, f"{title}; mistakes")


def as_csv(rows: Sequence[Mapping[str, Any]]) -> bytes:
    """Returns rows of a table as a CSV file, with the columns of the first row."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]) if rows else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def _folder_name(number: int, row: Mapping[str, Any]) -> str:
    parts = (epath.Path(row["checkpoint"]).name, row["weights"], row["data"], f"{row['image_size']}px", row["crop"])
    return f"{number:02d}_" + "_".join(re.sub(r"[^\w.-]+", "-", str(part)) for part in parts)
