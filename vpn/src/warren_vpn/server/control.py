"""The messages of the server's control socket: one JSON line each way, then the connection ends."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field, StringConstraints, TypeAdapter

from warren_contracts.base import Document, Input

MAX_REQUEST = 4096
"""Bytes of a request."""
MAX_REPLY = 64 << 20
"""Bytes of a reply: 600 for each of 100,000 sessions."""
Target = Annotated[str, StringConstraints(min_length=1, max_length=64)]


class StatusRequest(Input):
    """Everything about the server now."""

    request: Literal["status"] = "status"


class DisconnectRequest(Input):
    """End the sessions of a user, or the session with this number."""

    request: Literal["disconnect"] = "disconnect"
    target: Target


class ReloadRequest(Input):
    """Read server.toml and the users again now."""

    request: Literal["reload"] = "reload"


Request = StatusRequest | DisconnectRequest | ReloadRequest
REQUEST: TypeAdapter[Request] = TypeAdapter(Annotated[Request, Field(discriminator="request")])


class SessionStatus(Document):
    """One client that is connected. Counters are since then, at most a second old."""

    id: int
    user: str
    login: str
    """`raw-key`, `certificate`, or EAP's method: `eap-gtc`, `eap-mschapv2`."""
    addresses: tuple[str, ...]
    """Inside the tunnel."""
    endpoint: str
    """The client's address and port outside."""
    behind_nat: bool
    since: datetime
    bytes_in: int
    """From the client."""
    bytes_out: int
    packets_in: int
    packets_out: int
    idle_s: float
    """Since the last packet of the client."""
    ike: str
    """Algorithms."""
    esp: str
    rekeys: int


class PoolStatus(Document):
    """Addresses of a pool. `size` counts those that clients can get."""

    network: str
    size: int
    used: int


class ServerStatus(Document):
    """The whole status. Counters are since the server started."""

    identity: str
    certificate_expires: datetime | None = None
    """None: the server has no certificate."""
    process_id: int
    data_process_id: int | None
    data_process_starts: int
    since: datetime
    connected: int
    logins: int
    half_open: int
    sessions: tuple[SessionStatus, ...]
    pools: tuple[PoolStatus, ...]
    refusals: dict[str, int]
    """Logins that were refused, by kind."""
    packets_dropped: dict[str, int]
    """ESP and inner packets, by reason."""
    datagrams_ignored: dict[str, int]
    """IKE messages, by reason."""


class Disconnected(Document):
    """The numbers of the sessions that were ended."""

    sessions: tuple[int, ...]


class Reloaded(Document):
    """What the server works with now."""

    users: int


class ControlRefused(Document):
    """The server does not do it. `reason` says what to correct."""

    refused: str


Reply = ServerStatus | Disconnected | Reloaded | ControlRefused
