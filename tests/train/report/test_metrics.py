"""The metrics of a run, on a local disk and in a bucket, in whose place TensorFlow uses a local folder."""

import json
import os
import threading
from pathlib import Path

import pytest
import tensorflow as tf
from etils import epath
from fake_bucket import use_as_bucket

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
            event = tf.compat.v1.Event.FromString(record)
            found += [(value.tag, event.step, value.simple_value) for value in event.summary.value]
    return found


@pytest.fixture
def said():
    """The warnings."""
    return []


@pytest.mark.parametrize("place", ["disk", "bucket"])
def test_metrics_and_events_are_written_and_continued_after_a_restart(place, bucket, tmp_path, said):
    local = bucket / "run" if place == "bucket" else tmp_path / "run"
    run = epath.Path("gs://bucket/run" if place == "bucket" else local)
    run.mkdir(parents=True)
    writer = MetricsWriter(run, 0, said.append)
    writer.write(1, {"train/loss": 0.5})
    writer.write(2, {"train/loss": 0.25, "train/accuracy": 1.0})
    writer.flush()
    assert len(read_metrics(run)) == 2
    writer.close()
    old = [("train/loss", 1, 0.5), ("train/loss", 2, 0.25), ("train/accuracy", 2, 1.0)]
    assert scalars(local / "tensorboard") == old

    writer = MetricsWriter(run, 1, said.append)
    writer.write(2, {"train/loss": 0.75})
    writer.close()
    expected = [{"step": 1, "train/loss": 0.5}, {"step": 2, "train/loss": 0.75}]
    assert [json.loads(line) for line in (local / "metrics.jsonl").read_text().splitlines()] == expected
    assert read_metrics(run) == writer.rows == expected
    assert scalars(local / "tensorboard") == [*old, ("train/loss", 2, 0.75)]
    assert sorted(path.name for path in local.iterdir()) == ["metrics.jsonl", "tensorboard"]
    assert said == []


def test_an_event_file_tells_tensorboard_to_drop_what_a_resumed_run_writes_again(tmp_path, said):
    MetricsWriter(epath.Path(tmp_path), 7, said.append).close()
    (file,) = (tmp_path / "tensorboard").glob("events.out.tfevents.*")
    version, start = map(tf.compat.v1.Event.FromString, tf.data.TFRecordDataset(str(file)).as_numpy_iterator())
    assert version.file_version == "brain.Event:2"
    assert (start.session_log.status, start.step) == (tf.compat.v1.SessionLog.START, 8)


def test_a_failed_upload_is_told_and_retried(bucket, monkeypatch, said):
    write, failures = tf.io.gfile.GFile.write, [tf.errors.UnavailableError(None, None, "503") for _ in range(2)]

    def flaky(self, content):
        if failures:
            raise failures.pop()
        write(self, content)

    run = epath.Path("gs://bucket/run")
    run.mkdir(parents=True)
    writer = MetricsWriter(run, 0, said.append)
    writer.write(0, {"train/loss": 0.5})
    writer.flush()
    monkeypatch.setattr(tf.io.gfile.GFile, "write", flaky)
    for step in range(1, 30):
        writer.write(step, {"train/loss": 0.5})
    writer.flush()
    assert len(said) == 2
    assert all("could not be written: 503; the run goes on" in text for text in said)
    writer.close()
    assert len(read_metrics(run)) == len(scalars(bucket / "run/tensorboard")) == 30
    assert [text.endswith("is written again") for text in said] == [False, False, True, True]


def test_a_disk_that_stays_full_never_stops_writing_rows_but_closing_says_so(tmp_path, said, monkeypatch):
    def failing(*_):
        raise OSError(28, "No space left on device")

    writer = MetricsWriter(epath.Path(tmp_path), 0, said.append)
    writer.write(1, {"train/loss": 0.5})
    writer.flush()
    monkeypatch.setattr("os.open", failing)
    for step in range(2, 102):  # more than any queue holds
        writer.write(step, {"train/loss": 0.5})
    writer.flush()
    with pytest.raises(OSError, match=r"^the last 100 of 101 rows of metrics.jsonl could not be written$"):
        writer.close()
    assert len(said) == 2
    assert len(writer.rows) == 101
    assert [row["step"] for row in read_metrics(epath.Path(tmp_path))] == [1]


def test_a_writer_of_a_disk_that_hangs_does_not_stop_the_run(tmp_path, said, monkeypatch):
    released, really = threading.Event(), os.open

    def hanging(*arguments):
        released.wait()
        return really(*arguments)

    monkeypatch.setattr("os.open", hanging)
    monkeypatch.setattr("effnetv2_jax.train.report.metrics._FLUSH_SECONDS", 0.01)
    writer = MetricsWriter(epath.Path(tmp_path), 0, said.append)
    for step in range(1, 101):
        writer.write(step, {"train/loss": 0.5})
    writer.flush()
    assert read_metrics(epath.Path(tmp_path)) == []
    released.set()
    writer.close()
    assert len(read_metrics(epath.Path(tmp_path))) == len(scalars(tmp_path / "tensorboard")) == 100


def test_a_last_line_that_is_cut_is_dropped_and_any_other_is_named(tmp_path, said):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n{"st')
    MetricsWriter(epath.Path(tmp_path), 1, said.append).close()
    assert path.read_text() == '{"step": 1}\n'
    path.write_text('{"step": 1}\n{"st\n{"step": 3}\n')
    with pytest.raises(ValueError, match=r"line 2 of \S*metrics.jsonl is damaged: '\{\"st'"):
        read_metrics(epath.Path(tmp_path))
