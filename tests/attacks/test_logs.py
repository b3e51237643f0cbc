"""F18: 43,000 refused connections wrote 22 MB of logs, which rotated everything else away."""

from typing import Any

import pytest

from warren_service.limited_log import INTERVAL_S, MAX_KEYS, MAX_LINES, LimitedLog
from warren_stack.nats import NOISE
from warren_stack.noise import INTERVAL_SECONDS, LINES, NoiseLimit

REFUSED = b'[7] 2026/01/02 03:04:05 [ERR] 192.0.2.66:4711 - cid:%d - authentication error - Nkey "UABC"\n'
OTHERS = [
    b"[7] 2026/01/02 03:04:05 [INF] Server is ready\n",
    b"[7] 2026/01/02 03:04:05 [ERR] JetStream stream 'CTRL > POLICY' critical write error: no space left\n",
]


class Lines:
    """A logger that keeps its lines."""

    def __init__(self) -> None:
        self.lines: list[dict[str, Any]] = []

    def __call__(self, event: str, /, **fields: Any) -> None:
        self.lines.append({"event": event, **fields})


def test_a_flood_of_one_address_is_one_line_in_an_interval_with_its_count() -> None:
    now, lines = [0.0], Lines()
    log = LimitedLog(lines, "callout.refused", clock=lambda: now[0])
    for _ in range(43_000):
        log.write("192.0.2.66", error="the key is not enrolled")
    assert len(lines.lines) == 1
    now[0] += INTERVAL_S
    log.write("192.0.2.66", error="the key is not enrolled")
    assert lines.lines[1]["suppressed"] == 42_999


def test_a_flood_of_many_addresses_is_limited_too_and_counted() -> None:
    now, lines = [0.0], Lines()
    log = LimitedLog(lines, "callout.refused", clock=lambda: now[0])
    for number in range(43_000):
        log.write(f"address-{number}")
    assert len(lines.lines) == MAX_LINES
    now[0] += INTERVAL_S
    log.write("another")
    assert lines.lines[-1]["suppressed_of_others"] == 43_000 - MAX_LINES
    assert len(log._keys) <= MAX_KEYS


def test_what_happens_seldom_is_logged_at_once() -> None:
    now, lines = [0.0], Lines()
    log = LimitedLog(lines, "callout.refused", clock=lambda: now[0])
    for _ in range(5):
        log.write("192.0.2.66")
        now[0] += INTERVAL_S
    assert lines.lines == [{"event": "callout.refused"}] * 5


@pytest.mark.parametrize("size", [1, 7, 4_096, 1 << 20], ids=["bytes", "pieces", "pages", "all"])
def test_noise_of_a_part_is_limited_and_other_lines_are_whole(size: int) -> None:
    """However the output is cut into pieces."""
    now = [0.0]
    limit = NoiseLimit(NOISE, lambda: now[0])
    count = 200 if size == 1 else 2_000
    output = b"".join(REFUSED % number + (OTHERS[number % 2] if number % 100 == 0 else b"") for number in range(count))
    kept = b"".join(limit.filter(output[at : at + size]) for at in range(0, len(output), size)) + limit.rest()
    assert kept.count(b"authentication error") == LINES
    assert sum(kept.count(line) for line in OTHERS) == count // 100
    now[0] += INTERVAL_SECONDS
    kept = limit.filter(REFUSED % 1)
    assert (
        kept
        == f"-- {count - LINES} lines about refused connections and messages were left out\n".encode() + REFUSED % 1
    )


def test_a_line_without_an_end_is_not_held_for_ever() -> None:
    limit = NoiseLimit(NOISE)
    kept = b"".join(limit.filter(b"x" * 10_000) for _ in range(10))
    assert len(kept) > 60_000


def test_output_without_noise_passes_as_it_comes() -> None:
    assert NoiseLimit(()).filter(b"half a li") == b"half a li"
