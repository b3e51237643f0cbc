"""One telemetry message, as it waits and is sent."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class TelemetryMessage:
    """One message. Messages of one `series` supersede each other; an empty series stands alone."""

    subject: str
    payload: bytes = field(repr=False)
    headers: dict[str, str] = field(repr=False)
    series: str = ""
