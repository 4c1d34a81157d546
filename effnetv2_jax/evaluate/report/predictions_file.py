"""A table with one row for each image of each evaluation, as Parquet or CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from etils import epath

from effnetv2_jax.evaluate.suite import Evaluation
from effnetv2_jax.paths import absolute
from effnetv2_jax.whole_file import write_whole

SUFFIXES = (".parquet", ".csv")


def check_predictions_path(path: epath.PathLike) -> None:
    """Raises ValueError unless the file's name ends in one of `SUFFIXES`."""
    if epath.Path(path).suffix not in SUFFIXES:
        raise ValueError(f"{path} must end in {' or '.join(SUFFIXES)}")


def write_predictions(path: epath.PathLike, evaluations: Sequence[Evaluation]) -> None:
    """Writes a row for each image of each evaluation: what was evaluated, the image, its classes and its predictions.

    The columns are `checkpoint`, `weights`, `data`, `image_size`, `crop`, `flip`; `image`, its name; `labels` and
    `label_names`; `right`, which is empty for an image without a label; `loss` and `probability`, that of its classes;
    and `class_1`, `name_1`, `probability_1` up to 5 of the most probable classes. Classes are numbered as the weights
    number them. In CSV, several labels are separated by `;`.

    Raises:
      ValueError: for another suffix.
      OSError: if the file cannot be written.
    """
    check_predictions_path(path)
    tables = [_columns(evaluation) for evaluation in evaluations]
    names = list(dict.fromkeys(name for table in tables for name in table))
    # A column that an evaluation of few classes lacks, such as class_5, is empty in its rows.
    columns = {
        name: [value for table in tables for value in table.get(name, [None] * len(table["image"]))] for name in names
    }
    content = _parquet(columns) if str(path).endswith(".parquet") else _csv(columns)
    write_whole(absolute(path), content)


def _columns(evaluation: Evaluation) -> dict[str, list[Any]]:
    results, classes, row = evaluation.results, evaluation.classes, evaluation.row()
    index, names = np.array(classes.columns), classes.names
    labels = [own[own >= 0] for own in results.labels]
    columns: dict[str, list[Any]] = {
        name: [row[name]] * len(labels) for name in ("checkpoint", "weights", "data", "image_size", "crop", "flip")
    }
    columns |= {
        "image": [name.decode() for name in results.names],
        "labels": [index[own].tolist() for own in labels],
        "label_names": [[names[number] for number in own] for own in labels],
        "right": [
            right if has_label else None
            for right, has_label in zip(results.right.tolist(), results.labelled.tolist(), strict=True)
        ],
        "loss": [loss if np.isfinite(loss) else None for loss in results.loss.tolist()],
        "probability": results.probability.tolist(),
    }
    for place, (best, probability) in enumerate(zip(results.best.T, results.best_probability.T, strict=True), 1):
        columns[f"class_{place}"] = index[best].tolist()
        columns[f"name_{place}"] = [names[number] for number in best]
        columns[f"probability_{place}"] = probability.tolist()
    return columns


def _parquet(columns: dict[str, list[Any]]) -> bytes:
    import pyarrow as pa
    from pyarrow import parquet

    buffer = io.BytesIO()
    parquet.write_table(pa.table(columns), buffer, compression="zstd")
    return buffer.getvalue()


def _csv(columns: dict[str, list[Any]]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    for row in zip(*columns.values(), strict=True):
        writer.writerow([";".join(map(str, value)) if isinstance(value, list) else value for value in row])
    return text.getvalue().encode()
