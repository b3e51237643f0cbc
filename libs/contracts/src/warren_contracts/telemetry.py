"""Telemetry that agents publish. The sender is identified by the subject only, never by the payload."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from warren_contracts.base import Document
from warren_contracts.names import TunnelName
from warren_contracts.status import MAX_DETAIL, DriverStatus, HostFacts, ReasonCode, TunnelState, TunnelStatus

PRESENCE = "presence"
REPORT = "report"
TUNNEL = "tunnel"
APPLIED = "applied"
REASON = "reason"
STORED_KINDS = (REPORT, TUNNEL, APPLIED, REASON)  # every message is stored; of heartbeats only the newest
KINDS = (PRESENCE, *STORED_KINDS)

REPORT_INTERVAL = 10  # s, of heartbeats and reports
OFFLINE_AFTER = 30  # s without a heartbeat: three in a row were lost

# Maximum bytes of one message with its headers: the limit of the streams, which reject larger ones.
MAX_PRESENCE = 8_192  # a heartbeat has 1.7 kB at most, and 4 kB with the longest version
MAX_TELEMETRY = 131_072  # a report of a hundred tunnels has 100 kB; longer ones are split into parts
HEADERS = 4_096  # of these, reserved for headers

ShortText = Annotated[str, StringConstraints(max_length=MAX_DETAIL)]


class AgentState(StrEnum):
    """State of the agent's state machine."""

    START = "start"
    ENROL = "enrol"
    SYNC = "sync"
    APPLY = "apply"
    WATCH = "watch"


class Presence(Document):
    """A heartbeat, or the last message of a clean stop."""

    state: Literal["online", "stopping"]
    at: datetime
    agent: AgentState
    started_at: datetime
    instance: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{0,16}$")] = (
        ""  # of its process, as its connection names it
    )
    version: ShortText = ""
    resident_bytes: Annotated[int, Field(ge=0)] = 0
    cpu_seconds: Annotated[float, Field(ge=0)] = 0.0
    queued: Annotated[int, Field(ge=0)] = 0  # telemetry messages that wait in memory for the bus
    queued_bytes: Annotated[int, Field(ge=0)] = 0  # of telemetry that waits on disk
    dropped: Annotated[int, Field(ge=0)] = 0  # telemetry messages that were dropped since the start: the queue was full
    # One per driver of the peer; without its daemon an agent cannot change the tunnels of a driver.
    drivers: Annotated[tuple[DriverStatus, ...], Field(max_length=8)] = ()
    host: HostFacts | None = None


class Report(Document):
    """Status of all tunnels of one peer, also of desired ones that do not exist, every REPORT_INTERVAL.

    A large number of tunnels is split into several parts of one report.
    """

    at: datetime
    part: Annotated[int, Field(ge=0)] = 0
    parts: Annotated[int, Field(ge=1)] = 1
    tunnels: tuple[TunnelStatus, ...]
    policy_sync_errors: Annotated[int, Field(ge=0)] = 0
    dpd_failures: Annotated[int, Field(ge=0)] = 0


class TunnelChange(Document):
    """One tunnel changed its state or its SAs, or was removed; published immediately.

    Once after a change of its configuration, with the next report, it says that packets pass: `first_packet_at`.
    """

    at: datetime
    previous: TunnelState | None
    status: TunnelStatus
    removed: bool = False
    # By when a packet of the peer has come through an SA that the change has made; None: the message is about something else.
    first_packet_at: datetime | None = None


class AppliedTunnel(Document):
    """Result for one tunnel in one run of the reconciler."""

    name: TunnelName
    step: Literal["created", "updated-child", "updated-ike", "deleted", "unchanged", "failed"]
    reason: ReasonCode = ReasonCode.NONE
    detail: ShortText = ""


class Applied(Document):
    """Result of applying a policy or directory change."""

    at: datetime
    epoch: int
    revision: int  # the highest policy revision in this state
    ok: bool
    duration_ms: Annotated[float, Field(ge=0)]
    delivered_at: datetime  # when the change arrived
    unchanged: Annotated[int, Field(ge=0)] = 0
    tunnels: tuple[AppliedTunnel, ...] = ()  # without the unchanged ones
    error: ShortText = ""


class AttemptFailure(Document):
    """Why an attempt failed, as the daemon reported it, or what was wrong with its configuration (`config-drift`)."""

    at: datetime
    tunnel: TunnelName
    code: ReasonCode
    detail: ShortText = ""
