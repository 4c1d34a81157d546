"""What the owner file of a run folder says about the process that writes into the folder."""

from __future__ import annotations

import datetime as dt
import json
import os
import socket


def record_of_this_process(token: str = "") -> str:
    """Returns the content of an owner file for this process, in JSON; a token tells two leases apart."""
    since = dt.datetime.now().astimezone().isoformat(timespec="seconds")
    record = {"host": socket.gethostname(), "pid": os.getpid(), "since": since}
    return json.dumps(record | ({"token": token} if token else {})) + "\n"


def token_in(text: str) -> str:
    """Returns the token of an owner file's content, or "" if it has none."""
    return str(_fields(text).get("token", ""))


def owner_in(text: str) -> str:
    """Returns the owner that an owner file's content names, in words."""
    fields = _fields(text)
    if not {"host", "pid", "since"} <= fields.keys():
        return "another process"
    return f"process {fields['pid']} on {fields['host']} since {fields['since']}"


def _fields(text: str) -> dict[str, object]:
    """Returns the fields of an owner file's content; none if it is damaged or only partly written."""
    try:
        fields = json.loads(text)
    except ValueError:
        return {}
    return fields if isinstance(fields, dict) else {}
