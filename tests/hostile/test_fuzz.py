"""Damaged and hostile input of every reader: a right result or an error of ours, never a crash, a hang or much memory.

The fast part draws the same inputs each time. The long one, under `slow`, draws 20,000 for each reader, and 2,000 for
the one that starts a process for each.
"""

from __future__ import annotations

import collections
import json
import os
from collections.abc import Iterator
from typing import Any

import pytest
from hostile import readers, valid_files
from hostile.mutations import LARGE_NUMBERS, NUMBERS, damaged, json_values
from hostile.reader_process import Outcome, ReaderProcess
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from effnetv2_jax.config_fields import config_fields
from effnetv2_jax.convert.formats.sorted_table import masked_crc32c
from effnetv2_jax.train.config import TrainConfig

MANY = int(os.environ.get("HOSTILE_INPUTS", "20000"))
OPTIONS: dict[str, Any] = {
    "deadline": None, "database": None, "suppress_health_check": list(HealthCheck), "print_blob": False
}  # fmt: skip
TAR_NUMBERS = [512 * member + offset for member in (0, 2) for offset in (0, 100, 124, 136, 148, 156, 157, 257, 345)]


def indices() -> st.SearchStrategy[bytes]:
    """Indices whose checksums are right and whose entries claim anything."""
    numbers = st.sampled_from((*NUMBERS, *LARGE_NUMBERS, 20, 72, masked_crc32c(valid_files.TENSORS["m/head/bias"])))
    claims = st.builds(
        valid_files.entry, st.sampled_from((0, 1, 3, 7, 9, 14)) | numbers, st.lists(numbers, max_size=4), numbers,
        numbers, numbers.map(lambda number: number % (1 << 32)), numbers,
    )  # fmt: skip
    fields = st.lists(st.tuples(st.integers(1, 8), numbers | st.binary(max_size=9)), max_size=5)
    fields = fields.map(lambda pairs: b"".join(valid_files.field(*pair) for pair in pairs))
    names = st.sampled_from((b"m/head/bias", b"m/stem/conv2d/kernel", b"\xff\xfe", b"", b"a" * 2000)) | st.binary()
    return st.builds(
        valid_files.table, st.dictionaries(names, claims | fields, max_size=5), st.just(b"\x08\x01") | fields
    )


def changed_json(valid: bytes) -> st.SearchStrategy[bytes]:
    """An object with some values replaced, by odd values or by JSON within a string."""
    fields = json.loads(valid)
    values = json_values() | json_values().map(json.dumps)
    return st.dictionaries(st.sampled_from(list(fields)), values, min_size=1, max_size=3).map(
        lambda changes: json.dumps(fields | changes).encode()
    )


def changed_spec() -> st.SearchStrategy[bytes]:
    """A card whose architecture has odd values."""
    card = json.loads(valid_files.card())
    spec = json.loads(card["spec"])

    def with_changes(changes: dict[str, Any], row: dict[str, Any]) -> bytes:
        rows = [spec["rows"][0] | row, *spec["rows"][1:]]
        return json.dumps(card | {"spec": json.dumps(spec | {"rows": rows} | changes)}).encode()

    def odd(keys: list[str]) -> st.SearchStrategy[dict[str, Any]]:
        return st.dictionaries(st.sampled_from(keys), json_values(), max_size=2)

    return st.builds(with_changes, odd(list(spec)), odd(list(spec["rows"][0])))


def command_lines() -> st.SearchStrategy[bytes]:
    names = st.sampled_from([field.name for field in config_fields(TrainConfig())]) | st.text(max_size=10)
    values = json_values().map(lambda value: value if isinstance(value, str) else json.dumps(value))
    overrides = (
        st.builds("--config.{}={}".format, names, values) | values | st.sampled_from(("--flagfile=/dev/zero", "--"))
    )
    configs = st.sampled_from(("digits", "imagenet1k:efficientnetv2-s", "smoke")) | st.text(max_size=20)
    configs |= st.text(max_size=20).map("imagenet1k:{}".format)
    lines = st.builds(lambda config, words: "\n".join([config, *words]), configs, st.lists(overrides, max_size=3))
    return lines.map(lambda text: text.encode(errors="replace"))


def inputs(name: str, valid: bytes) -> st.SearchStrategy[bytes]:
    """Returns the strategy of a reader's damaged and hostile inputs."""
    match name:
        case "tar":
            return damaged(valid, TAR_NUMBERS)
        case "index":
            return damaged(valid) | indices()
        case "safetensors":
            foreign = valid.replace(b"tensors_sha256", b"something_else")  # without our digest, any numbers are right
            return damaged(valid, (0, *range(8, 400))) | damaged(foreign, (0, *range(8, 400)))
        case "picture" | "decoded":
            return st.one_of([damaged(image, range(min(len(image), 200))) for image in valid_files.images().values()])
        case "card":
            return damaged(valid) | changed_json(valid) | changed_spec()
        case "run config" | "spec":
            return damaged(valid) | changed_json(valid)
        case "command line":
            return command_lines()
    return damaged(valid)


def valid_input(name: str) -> bytes:
    match name:
        case "index" | "tensors" | "tar" | "tgz" | "card" | "spec" | "pth" | "h5":
            return getattr(valid_files, name)()
        case "legacy pth":
            return valid_files.pth(legacy=True)
        case "safetensors":
            return valid_files.safetensors_file()
        case "run config":
            return valid_files.run_config()
        case "command line":
            return b"digits"
    return valid_files.images()["JPEG"]


def is_right(name: str, valid: Outcome, value: Any) -> bool:
    """Returns whether a reader may return `value` for an input."""
    match name:
        case "tgz" | "tar" | "tensors" | "pth":  # their checksums cover all bytes that tensors are made of
            return value == valid.value
        case "index":
            return all(entry == valid.value.get(key, entry) for key, entry in value.items())
        case "safetensors":
            (_, expected), (has_digest, found) = valid.value, value
            return not has_digest or all(
                entry[2] == expected[key][2] for key, entry in found.items() if key in expected
            )
        case "picture" | "decoded":
            return value[-1] == 3 and 0 < value[0] * value[1] <= 89_478_485
    return True


class Fuzz:
    """A reader's process, and how many inputs it has read and refused."""

    def __init__(self, name: str) -> None:
        self.name, self.share = name, readers.READERS[name].share
        self.valid = valid_input(name)
        self.process = ReaderProcess(readers.READERS[name], self.valid)
        self.count: collections.Counter[str] = collections.Counter()
        self.peak = 0

    def check(self, data: bytes) -> None:
        if data == self.valid:
            return
        outcome = self.process.read(data)
        self.count[outcome.kind] += 1
        self.peak = max(self.peak, outcome.peak)
        assert outcome.kind != "escaped", outcome.value
        assert outcome.kind == "refused" or is_right(self.name, self.process.valid, outcome.value), outcome
        assert outcome.peak <= readers.READERS[self.name].memory, f"it took {outcome.peak:,} bytes"


@pytest.fixture(scope="module", params=readers.READERS)
def fuzz(request: pytest.FixtureRequest) -> Iterator[Fuzz]:
    if "pth" in request.param:
        pytest.importorskip("torch", minversion="2.6")
    if request.param == "decoded":
        pytest.importorskip("tensorflow")
    made = Fuzz(request.param)
    assert made.process.valid.kind == "read", made.process.valid
    yield made
    made.process.stop()
    print(f"\n{made.name}: {dict(made.count)}, at most {made.peak / 1e6:.0f} MB more")


def test_hostile_input_is_refused_or_read_rightly(fuzz):
    @settings(max_examples=max(30, int(100 * fuzz.share)), derandomize=True, **OPTIONS)
    @given(data=inputs(fuzz.name, fuzz.valid))
    def check(data: bytes) -> None:
        fuzz.check(data)

    check()


@pytest.mark.slow
def test_much_hostile_input_is_refused_or_read_rightly(fuzz):
    @settings(max_examples=int(MANY * fuzz.share), **OPTIONS)
    @given(data=inputs(fuzz.name, fuzz.valid))
    def check(data: bytes) -> None:
        fuzz.check(data)

    check()
