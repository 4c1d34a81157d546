"""`python -m effnetv2_jax` is the console command `effnetv2`."""

import sys

from effnetv2_jax.cli.main import main

sys.exit(main())
