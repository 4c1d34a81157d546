"""The metrics of a run, also in a bucket, in whose place TensorFlow's file functions use a local folder."""

import json
from pathlib import Path

import pytest
import tensorflow as tf
from etils import epath
from fake_bucket import use_as_bucket
from tensorboardX.proto.event_pb2 import Event

from effnetv2_jax.train.report.metrics import MetricsWriter, read_metrics


@pytest.fixture
def bucket(tmp_path, monkeypatch) -> Path:
    """The folder of `gs://bucket`."""
    monkeypatch.chdir(tmp_path)
    return use_as_bucket(tmp_path / "bucket", monkeypatch)


def scalars(folder: Path) -> list[tuple[str, int, float]]:
    """Returns (tag, step, value) of each number in the event files of a folder."""
    found = []
    for file in sorted(folder.glob("events*")):
        for record in tf.data.TFRecordDataset(str(file)).as_numpy_iterator():
            event = Event.FromString(record)
            found += [(value.tag, event.step, value.simple_value) for value in event.summary.value]
    return found


def test_metrics_and_events_are_written_to_a_bucket_and_continued_after_a_restart(bucket, tmp_path):
    run = epath.Path("gs://bucket/run")
    run.mkdir(parents=True)
    writer = MetricsWriter(run, 0)
    writer.write(1, {"loss": 0.5}, "train")
    writer.write(2, {"loss": 0.25}, "train")
    writer.close()
    assert scalars(bucket / "run/tensorboard") == [("train/loss", 1, 0.5), ("train/loss", 2, 0.25)]

    writer = MetricsWriter(run, 1)
    writer.write(2, {"loss": 0.75}, "train")
    writer.close()
    expected = [{"step": 1, "train/loss": 0.5}, {"step": 2, "train/loss": 0.75}]
    assert [json.loads(line) for line in (bucket / "run/metrics.jsonl").read_text().splitlines()] == expected
    assert read_metrics(run) == writer.rows == expected
    assert scalars(bucket / "run/tensorboard")[-1] == ("train/loss", 2, 0.75)
    assert list(tmp_path.iterdir()) == [bucket]


@pytest.fixture(params=["local", "bucket"])
def run(request, tmp_path):
    """A run folder, and its path on the local disk."""
    if request.param == "local":
        return epath.Path(tmp_path), tmp_path
    return epath.Path("gs://bucket"), request.getfixturevalue("bucket")


def failing(monkeypatch, errors):
    """Makes opening a file for writing fail with these errors, the last one first, before it succeeds."""
    gfile, local = tf.io.gfile.GFile, type(epath.Path("/")).open

    def opened(path, mode="r", **options):
        if "r" not in mode and "tensorboard" not in str(path) and errors:
            raise errors.pop()
        return local(path, mode, **options) if isinstance(path, epath.Path) else gfile(path, mode)

    monkeypatch.setattr(type(epath.Path("/")), "open", opened)
    return errors


def test_a_row_that_could_not_be_written_is_written_with_the_next_one(run, monkeypatch, caplog):
    writer = MetricsWriter(run[0], 0)
    writer.write(1, {"loss": 1.0}, "train")
    errors = failing(monkeypatch, [tf.errors.UnavailableError(None, None, "503\nagain"), OSError("disk full")])
    for step in (2, 3):
        writer.write(step, {"loss": 1.0}, "train")
        assert [json.loads(line)["step"] for line in (run[1] / "metrics.jsonl").read_text().splitlines()] == [1]
    for step in (4, 5):
        writer.write(step, {"loss": 1.0}, "train")
    writer.close()
    assert not errors
    assert [row["step"] for row in read_metrics(run[0])] == [1, 2, 3, 4, 5]
    assert caplog.messages == [f"{run[0]}/metrics.jsonl not written yet: {text}" for text in ("disk full", "503 again")]


def test_a_run_whose_rows_cannot_be_written_three_times_in_a_row_stops(run, monkeypatch):
    writer = MetricsWriter(run[0], 0)
    failing(monkeypatch, [OSError("disk full")] * 9)
    for step in (1, 2):
        writer.write(step, {"loss": 1.0}, "train")
    with pytest.raises(OSError, match="disk full"):
        writer.write(3, {"loss": 1.0}, "train")
    writer.close()


def test_a_failed_upload_is_logged_and_retried(bucket, monkeypatch, caplog):
    flush, failures = tf.io.gfile.GFile.flush, [tf.errors.UnavailableError(None, None, "503")]

    def flaky(self):
        if failures:
            raise failures.pop()
        flush(self)

    monkeypatch.setattr(tf.io.gfile.GFile, "flush", flaky)
    run = epath.Path("gs://bucket/run")
    run.mkdir(parents=True)
    writer = MetricsWriter(run, 0)
    for step in range(30):  # more than tensorboardX's queue holds
        writer.write(step, {"loss": 0.5}, "train")
    writer.close()
    assert "event file not uploaded yet: 503" in caplog.text
    assert len(scalars(bucket / "run/tensorboard")) == 30
