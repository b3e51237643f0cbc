"""The errors of the metrics service next to those of the contracts."""

from typing import ClassVar


class TelemetryRejectedError(Exception):
    """A telemetry message is refused: it is counted by `reason` and dropped."""

    REASONS: ClassVar[tuple[str, ...]] = (
        "subject", "kind", "too-large", "malformed", "out-of-bounds", "foreign-tunnel", "too-many-tunnels",
        "over-budget",
    )  # fmt: skip

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
