"""The limits of the clients of buckets: a request that is not answered is given up and made again."""

import os
import subprocess
import sys
import textwrap

import pytest
from gcs_server import SILENT, Faults, GcsServer

from effnetv2_jax.bucket_limits import LIMITS, set_limits

# Each writes an object and reads it back, as the library alone does it.
CLIENTS = {
    "tensorflow": """
        from effnetv2_jax.data.cpu_tensorflow import tf
        with tf.io.gfile.GFile("gs://bucket/x", "w") as file:
            file.write("content")
        print(tf.io.gfile.GFile("gs://bucket/x").read())
    """,
    "tensorstore": """
        from effnetv2_jax.bucket_limits import set_limits
        set_limits()
        import tensorstore
        store = tensorstore.KvStore.open({"driver": "gcs", "bucket": "bucket"}).result()
        store.write("x", b"content").result()
        print(store.read("x").result().value.decode())
    """,
}


def test_a_limit_that_the_user_has_set_stays(monkeypatch):
    for name in LIMITS:
        monkeypatch.delenv(name, raising=False)
    changed, *others = LIMITS
    monkeypatch.setenv(changed, "7")
    set_limits()
    assert os.environ[changed] == "7"
    assert {name: os.environ[name] for name in others} == {name: LIMITS[name] for name in others}


@pytest.mark.slow
@pytest.mark.parametrize("client", CLIENTS)
def test_a_request_without_an_answer_is_made_again(client, tmp_path):
    """tensorstore alone would wait for ever."""
    code = textwrap.dedent(CLIENTS[client])
    with GcsServer("bucket", folder=tmp_path, faults=Faults(share=0.4, kinds=(SILENT,), seed=1)) as server:
        limits = {name: str(min(int(value), 2)) for name, value in LIMITS.items()}
        environment = os.environ | server.environment() | limits
        child = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=200
        )
        assert child.stdout.strip() == "content", child.stderr
        assert server.failed[SILENT] >= 1
