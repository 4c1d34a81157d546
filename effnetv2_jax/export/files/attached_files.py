"""What an exported file says of its network, in a ZIP archive behind the program.

TensorFlow Lite's metadata are attached to a model in this way. The reader of the program, a FlatBuffer, starts at the
beginning of the file and ignores what follows it, and a reader of ZIP archives starts at the end.
"""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

from effnetv2_jax.export.served_network import ServedNetwork

LABELS, DESCRIPTION = "labels.txt", "model.json"


def texts(network: ServedNetwork) -> dict[str, str]:
    """Returns the files by name: the class names, one a line, if they are known, and the description as JSON."""
    description = json.dumps(network.description(), indent=1, ensure_ascii=False) + "\n"
    names = network.class_names()
    labels = {LABELS: "".join(f"{' '.join(name.split())}\n" for name in names)} if names else {}
    return labels | {DESCRIPTION: description}


def attach(path: Path, network: ServedNetwork) -> None:
    """Appends the archive to a file."""
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        for name, text in texts(network).items():
            archive.writestr(zipfile.ZipInfo(name), text)  # without the time, so that equal exports are equal files
