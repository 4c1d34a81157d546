"""`python -m effnetv2_jax` is the console command `effnetv2`."""

from effnetv2_jax.cli.main import script

script()
