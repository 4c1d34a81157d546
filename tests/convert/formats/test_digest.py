"""Digests of files."""

import hashlib

from effnetv2_jax.convert.formats.digest import file_sha256


def test_the_digest_of_several_files_is_that_of_their_concatenation(tmp_path):
    (tmp_path / "a").write_bytes(b"x" * 2_000_000)
    (tmp_path / "b").write_bytes(b"y")
    expected = hashlib.sha256(b"x" * 2_000_000 + b"y").hexdigest()
    assert file_sha256(tmp_path / "a", tmp_path / "b") == expected
