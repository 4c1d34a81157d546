"""The metrics of a run in a bucket, in whose place TensorFlow's file functions use a local folder."""

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
