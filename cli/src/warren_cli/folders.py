"""Where `warren up` stores its data on this machine. Pure paths."""

import os
from pathlib import Path

TOKEN_NAME = "admin.token"  # noqa: S105 - a file name
"""The first operator's bearer token, in the data folder."""

CA_NAME = "tls/trusted.pem"
"""The CAs that clients of this fleet trust, in the same folder."""


def default_data_folder() -> Path:
    """/var/lib/warren for root, else the user's data folder (XDG Base Directory)."""
    if os.geteuid() == 0:
        return Path("/var/lib/warren")
    base = os.environ.get("XDG_DATA_HOME") or str(Path.home() / ".local" / "share")
    return Path(base) / "warren"
