"""Durations as people write them: `30s`, `15m`, `12h`, `7d`."""

import re

_UNITS_S = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
_DURATION = re.compile(r"([0-9]{1,9})([smhd])")


def parse_duration(text: str) -> int | None:
    """Seconds, or None: it is not a number of at most 9 digits and a unit."""
    found = _DURATION.fullmatch(text)
    return int(found[1]) * _UNITS_S[found[2]] if found is not None else None
