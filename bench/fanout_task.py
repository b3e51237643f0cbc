"""The task of a worker of the fan-out benchmark."""

from dataclasses import dataclass
from typing import Literal

RAW_SUBJECT = "fanout.raw"


@dataclass(frozen=True, slots=True)
class Task:
    """Which agents one worker simulates, and against which server."""

    mode: Literal["feed", "raw"]
    url: str
    agents: list[str]
    keys: str = ""  # folder of the agents' seeds
    root: str = ""
    trust: str = ""  # the trust document's JSON
    base_revision: int = 0  # the revision that was published before the first measured one
