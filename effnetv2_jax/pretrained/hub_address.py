"""Addresses of files on the Hugging Face Hub: `hf://OWNER/REPOSITORY[/FILE][@REVISION]`."""

from __future__ import annotations

import dataclasses
import os
import re

HUB = "hf://"

_NAME = r"[A-Za-z0-9][\w.-]*"
_REVISION = r"(?:refs/(?:pr|convert)/)?[\w.-]+"
_FILE = rf"{_NAME}(?:/{_NAME})*"
_FORMS = (
    re.compile(rf"(?P<repository>{_NAME}/{_NAME})(?:/(?P<file>{_FILE}))?(?:@(?P<revision>{_REVISION}))?", re.ASCII),
    re.compile(rf"(?P<repository>{_NAME}/{_NAME})@(?P<revision>{_REVISION})/(?P<file>{_FILE})", re.ASCII),
)
_FORM = "hf://OWNER/REPOSITORY, hf://OWNER/REPOSITORY/FILE, and either with @REVISION at its end"


@dataclasses.dataclass(frozen=True)
class HubAddress:
    """A repository of models on the hub, or a file in it.

    Attributes:
      repository: owner and name, such as `timm/tf_efficientnetv2_s.in1k`.
      file: path of a file in it; "" for the whole folder.
      revision: a branch, a tag or a commit; "" for the main branch.
    """

    repository: str
    file: str = ""
    revision: str = ""

    def __str__(self) -> str:
        return (
            HUB + "/".join(filter(None, (self.repository, self.file))) + (f"@{self.revision}" if self.revision else "")
        )


def in_hub(path: str | os.PathLike[str]) -> bool:
    """Returns whether a path is an address of the hub."""
    return str(path).startswith(HUB)


def hub_address(path: str | os.PathLike[str]) -> HubAddress:
    """Returns the parts of an address. The revision may also follow the repository, as in `hf://OWNER/NAME@v1/FILE`.

    Raises:
      ValueError: if it is no address of a repository or a file in one.
    """
    text = str(path).removeprefix(HUB)
    found = next(filter(None, (form.fullmatch(text) for form in _FORMS)), None)
    if not in_hub(path) or found is None or ".." in text:
        raise ValueError(f"{path} is no address on the Hugging Face Hub; the forms are {_FORM}")
    return HubAddress(found["repository"], found["file"] or "", found["revision"] or "")
