"""What agents tell. Who tells is the subject token alone: nothing in a payload is believed to name the sender."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from warren_contracts.base import Document
from warren_contracts.names import TunnelName
from warren_contracts.status import DaemonState, ReasonCode, TunnelState, TunnelStatus

PRESENCE = "presence"
REPORT = "report"
TUNNEL = "tunnel"
APPLIED = "applied"
REASON = "reason"
KEPT_KINDS = (REPORT, TUNNEL, APPLIED, REASON)  # each message counts; of heartbeats only the newest
KINDS = (PRESENCE, *KEPT_KINDS)

REPORT_INTERVAL = 10  # s, of heartbeats and reports
OFFLINE_AFTER = 30  # s without a heartbeat: three lost in a row

# Bytes of one message with its headers: what the streams take (a greater one is refused, and the sender is told).
MAX_PRESENCE = 8_192  # a heartbeat has 700 at most, and 3 kB with the longest version
MAX_TELEMETRY = 131_072  # a report of a hundred tunnels has 100 kB; longer ones come in parts
HEADERS = 4_096  # of these, what is left for headers

ShortText = Annotated[str, StringConstraints(max_length=512)]


class AgentState(StrEnum):
    """Seed 1's state machine."""

    START = "start"
    ENROL = "enrol"
    SYNC = "sync"
    APPLY = "apply"
    WATCH = "watch"


class Presence(Document):
    """A heartbeat, and the goodbye of a clean stop."""

    state: Literal["online", "stopping"]
    at: datetime
    agent: AgentState
    started_at: datetime
    version: ShortText = ""
    resident_bytes: Annotated[int, Field(ge=0)] = 0
    cpu_seconds: Annotated[float, Field(ge=0)] = 0.0
    daemon: DaemonState = DaemonState.UNKNOWN  # an agent at work without its daemon changes no tunnel


class Report(Document):
    """All tunnels of one peer, also those that are wanted and not there, every REPORT_INTERVAL. Large fleets of tunnels are
    told in parts of one report."""

    at: datetime
    part: Annotated[int, Field(ge=0)] = 0
    parts: Annotated[int, Field(ge=1)] = 1
    tunnels: tuple[TunnelStatus, ...]
    policy_sync_errors: Annotated[int, Field(ge=0)] = 0
    dpd_failures: Annotated[int, Field(ge=0)] = 0


class TunnelChange(Document):
    """One tunnel changed its state, its SAs, or is gone: told at once."""

    at: datetime
    previous: TunnelState | None
    status: TunnelStatus
    removed: bool = False


class AppliedTunnel(Document):
    """What happened to one tunnel in one round of the reconciler."""

    name: TunnelName
    step: Literal["created", "updated-child", "updated-ike", "deleted", "unchanged", "failed"]
    reason: ReasonCode = ReasonCode.NONE
    detail: ShortText = ""


class Applied(Document):
    """A policy or directory change has been applied (or what kept it from being applied)."""

    at: datetime
    epoch: int
    revision: int  # the highest policy revision that this state holds
    ok: bool
    duration_ms: Annotated[float, Field(ge=0)]
    delivered_at: datetime  # when the change arrived
    unchanged: Annotated[int, Field(ge=0)] = 0
    tunnels: tuple[AppliedTunnel, ...] = ()  # the ones that are not unchanged
    error: ShortText = ""


class AttemptFailure(Document):
    """Why an attempt failed, as the daemon told it."""

    at: datetime
    tunnel: TunnelName
    code: ReasonCode
    detail: ShortText = ""
