"""CloudEvents 1.0 in NATS binary mode: attributes are `ce-` headers, the data is the payload. And in the structured JSON format.

https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/nats-protocol-binding.md
https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/formats/json-format.md
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

HEADER_MSG_ID = "Nats-Msg-Id"  # for the stream's de-duplication: always the event's id
HEADER_TRACEPARENT = "traceparent"
CONTENT_JSON = "application/json"

POLICY_PUBLISHED = "warren.policy.published.v1"
DIRECTORY_PUBLISHED = "warren.directory.published.v1"
DIGEST_PUBLISHED = "warren.digest.published.v1"
TELEMETRY_TYPES = {
    "presence": "warren.telemetry.presence.v1",
    "report": "warren.telemetry.report.v1",
    "tunnel": "warren.telemetry.tunnel.v1",
    "applied": "warren.telemetry.applied.v1",
    "reason": "warren.telemetry.reason.v1",
}


@dataclass(frozen=True, slots=True)
class EventAttributes:
    """The context attributes of one event. `id` is random: JetStream drops a repeated id across the whole stream."""

    type: str
    source: str  # `/services/policy`, `/peers/gw1`
    id: str
    time: datetime


def build_headers(attributes: EventAttributes, traceparent: str = "") -> dict[str, str]:
    """Build the headers of an event; `time` must be timezone-aware."""
    headers = {
        "ce-specversion": "1.0",
        "ce-type": attributes.type,
        "ce-source": attributes.source,
        "ce-id": attributes.id,
        "ce-time": attributes.time.astimezone(UTC).isoformat().replace("+00:00", "Z"),
        "content-type": CONTENT_JSON,
        HEADER_MSG_ID: attributes.id,
    }
    if traceparent:
        headers[HEADER_TRACEPARENT] = traceparent
    return headers


_ATTRIBUTES = ("specversion", "type", "source", "id", "time")


def structured(subject: str, sequence: int, headers: Mapping[str, str], payload: bytes) -> dict[str, Any]:
    """A stored message as one JSON object, with the subject and the sequence in the stream next to its attributes.

    `data` is null where the payload is not JSON.
    """
    given = {name.lower(): value for name, value in headers.items()}
    event: dict[str, Any] = {name: given[f"ce-{name}"] for name in _ATTRIBUTES if f"ce-{name}" in given}
    if HEADER_TRACEPARENT in given:
        event[HEADER_TRACEPARENT] = given[HEADER_TRACEPARENT]
    try:
        data = json.loads(payload)
    except ValueError:
        data = None
    return event | {"subject": subject, "sequence": sequence, "datacontenttype": CONTENT_JSON, "data": data}
