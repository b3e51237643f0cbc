"""Which run of charon answers: by the second of the host's monotonic clock in which it started. Pure.

`uptime.since` of `stats` is the time of day less how long charon runs, both in whole seconds (strongSwan 5.9.8, vici_query.c): it
moves by a second from one reading to the next, and with each correction of the time of day. Clocks that are read before and after
the command give the second of the start exactly, unless one of them has begun another second meanwhile.
"""

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime
from math import floor

_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
COARSE_S = 0.02
"""charon's time of day (time(2)) is as old as the kernel's last tick, at most 10 ms."""


@dataclass(frozen=True)
class HostClocks:
    """The clocks of the host at one instant."""

    time: float  # s, Unix time
    monotonic: float  # s since some point of the boot


def parse_run(since: str, before: HostClocks, after: HostClocks, boot: str) -> str | None:
    """The run of a charon that answered `since`, such as `Nov 30 02:04:20 2026`: 16 hexadecimal digits.

    `boot` is the id of the host's boot. A local time of another zone than the agent's moves all runs of a host by the same. None if a
    clock has begun another second, so that the command is to be given again; empty if `since` is not a time.
    """
    try:
        month, day_of_month, time_of_day, year = since.split()
        hour, minute, second = map(int, time_of_day.split(":"))
        date = int(year), _MONTHS.index(month) + 1, int(day_of_month)
        started = datetime(
            *date, hour, minute, second, tzinfo=UTC
        ).timestamp()  # strptime is 0.3 MB of the agent's memory
    except ValueError:
        return ""
    day, monotonic = floor(after.time), floor(after.monotonic)
    if (floor(before.time - COARSE_S), floor(before.monotonic)) != (day, monotonic):
        return None
    return hashlib.sha256(f"{boot} {floor(started) - day + monotonic}".encode()).hexdigest()[:16]
