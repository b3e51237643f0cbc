"""One tunnel of the daemon: its specification, its sessions, and what is reported of them."""

import asyncio
from collections.abc import Collection
from dataclasses import dataclass, field
from time import monotonic

from warren_ikev2.aio.handshakes import PendingHandshake
from warren_ikev2.aio.session import Session
from warren_ikev2.children import ChildSa, ChildUsage
from warren_ikev2.daemon.build import tunnel_of
from warren_ikev2.daemon.messages import ChildReport, TunnelReport, TunnelSpecification
from warren_ikev2.errors import AuthenticationError, IkeError
from warren_ikev2.events import SessionRole

_NOTHING = ChildUsage()


@dataclass(eq=False)
class DaemonTunnel:
    """One tunnel."""

    specification: TunnelSpecification
    generation: int = 1
    sessions: dict[Session, float] = field(default_factory=dict)
    """When each was seen first; monotonic seconds."""
    handshake: PendingHandshake | None = None
    attempt: asyncio.Task[None] | None = None
    attempts: int = 0
    failure: IkeError | None = None
    children_since: dict[int, float] = field(default_factory=dict)
    usage: dict[int, ChildUsage] = field(default_factory=dict)
    former: ChildUsage = _NOTHING
    """What CHILD_SAs that are gone have carried."""
    rekeys: int = 0

    @property
    def newest(self) -> list[Session]:
        """The sessions of the newest generation."""
        return [session for session in self.sessions if tunnel_of(session.info.connection)[1] == self.generation]

    @property
    def converged(self) -> bool:
        """Whether it is up on its newest specification and on nothing else."""
        wanted = {child.name for child in self.specification.children}
        newest = self.newest
        return len(newest) == len(self.sessions) > 0 and any(
            wanted <= {child.name for child in session.children.values()} for session in newest
        )

    @property
    def state(self) -> str:
        """`up`, `connecting`, `error` or `down`."""
        if any(session.children for session in self.sessions):
            return "up"
        if self.attempt is not None:
            return "connecting"
        return "error" if self.failure is not None else "down"

    def children_of(self, names: Collection[str]) -> list[tuple[Session, int]]:
        """The sessions and our SPIs of the CHILD_SAs of these children."""
        return [
            (session, child.spi_in)
            for session in self.sessions
            for child in session.children.values()
            if child.name in names
        ]

    def cancel_attempt(self) -> None:
        """Give up the attempt under way."""
        if self.attempt is not None:
            self.attempt.cancel()
            self.attempt = None

    def count(self) -> None:
        """Take over the counters of the present CHILD_SAs; those that are gone are former ones from now on."""
        present: dict[int, ChildUsage] = {}
        for session in self.sessions:
            present |= dict.fromkeys(session.children, _NOTHING) | session.usage()
        now = monotonic()
        for spi in self.usage.keys() - present.keys():
            self.former = _add(self.former, self.usage[spi])
            self.children_since.pop(spi, None)
        for spi in present:
            self.children_since.setdefault(spi, now)
        self.usage = present

    def report(self) -> TunnelReport:
        """What is reported of it."""
        self.count()
        best = max(self.sessions, key=lambda session: (bool(session.children), self.sessions[session]), default=None)
        children = tuple(self._child(child) for session in self.sessions for child in session.children.values())
        total = self.former
        for usage in self.usage.values():
            total = _add(total, usage)
        failure = self.failure
        vips = best.info.network.addresses if best else ()
        initiated = best is not None and best.info.role is SessionRole.INITIATOR
        return TunnelReport(
            self.specification.name, self.state, self.converged,
            failure.error_code if failure else "", isinstance(failure, AuthenticationError) and failure.by_peer,
            str(failure)[:250] if failure else "",
            str(best.info.suite) if best else "", monotonic() - self.sessions[best] if best else None,
            str(best.path.local.host) if best else "", str(best.path.remote.host) if best else "",
            children, total.bytes_in, total.bytes_out, total.packets_in, total.packets_out,
            self.rekeys + sum(session.ike_rekeys for session in self.sessions), best.rekey_seconds if best else None,
            vips if initiated else (), () if initiated else vips,
        )  # fmt: skip

    def _child(self, child: ChildSa) -> ChildReport:
        usage, suite = self.usage[child.spi_in], child.suite
        cipher, _, exchange = str(suite).removesuffix("-esn").partition("-") if suite.group else (str(suite), "", "")
        return ChildReport(
            child.name, child.spi_in, child.spi_out, cipher.removesuffix("-esn"), exchange, suite.esn,
            monotonic() - self.children_since[child.spi_in], child.local_ts, child.remote_ts,
            usage.bytes_in, usage.bytes_out, usage.packets_in, usage.packets_out,
        )  # fmt: skip


def _add(one: ChildUsage, other: ChildUsage) -> ChildUsage:
    return ChildUsage(
        one.bytes_in + other.bytes_in, one.packets_in + other.packets_in,
        one.bytes_out + other.bytes_out, one.packets_out + other.packets_out,
    )  # fmt: skip
