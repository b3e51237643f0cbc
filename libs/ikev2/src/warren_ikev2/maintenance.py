"""The timers of an established IKE_SA: liveness, keepalives, lifetimes (RFC 7296, 2.4 and 2.8; RFC 3948, 4)."""

from warren_ikev2.addresses import Datagram
from warren_ikev2.children import ChildUsage
from warren_ikev2.constants import KEEPALIVE
from warren_ikev2.events import DeleteReason, ReauthenticationDue, State
from warren_ikev2.exchanges.create_child_sa import CreateChild
from warren_ikev2.exchanges.informational import DeleteChild, DeleteIke, Liveness
from warren_ikev2.exchanges.rekey_ike import RekeyIke
from warren_ikev2.ike_sa import IkeSa
from warren_ikev2.session import Child, ChildState


def deadline(sa: IkeSa) -> float | None:
    """Return the next time at which `handle_timer` has something to do; None: nothing is due."""
    session = sa.session
    if sa.state != State.ESTABLISHED or session.ike_sa is not sa:
        return None
    times = [sa.rekey_at, sa.over_at, session.reauth_at, _dpd_at(sa), _keepalive_at(sa)]
    times += [child.deadline() for child in session.children.values()]
    return min((time for time in times if time is not None), default=None)


def handle_timer(sa: IkeSa, now: float) -> None:
    """Do what is due."""
    session = sa.session
    if sa.state != State.ESTABLISHED or session.ike_sa is not sa:
        return
    if sa.over_at is not None and sa.over_at <= now:
        sa.over_at = None
        sa.enqueue(DeleteIke(DeleteReason.EXPIRED), now)
        return
    for child in list(session.children.values()):
        _handle_child(sa, child, now)
    if sa.rekey_at is not None and sa.rekey_at <= now:
        sa.rekey_at = None
        sa.enqueue(RekeyIke(), now)
    if session.reauth_at is not None and session.reauth_at <= now:
        session.reauth_at = None
        sa.host.emit(ReauthenticationDue(session.id, session.connection.name))
    _handle_silence(sa, now)


def count_usage(sa: IkeSa, child: Child, usage: ChildUsage, now: float) -> None:
    """Apply lifetimes by bytes and packets; inbound packets prove liveness."""
    if usage.packets_in > child.usage.packets_in:
        sa.session.last_inbound = now
    if usage.packets_out > child.usage.packets_out and sa.session.udp_encapsulation:
        sa.session.last_outbound = now  # ESP also keeps the NAT mapping open
    child.usage = usage
    limits = child.configuration.lifetime
    total_bytes, total_packets = usage.bytes_in + usage.bytes_out, usage.packets_in + usage.packets_out
    if _reached(total_bytes, limits.hard_bytes) or _reached(total_packets, limits.hard_packets):
        expire_child(sa, child, now)
    elif _reached(total_bytes, child.soft_bytes) or _reached(total_packets, child.soft_packets):
        rekey_child(sa, child, now)


def rekey_child(sa: IkeSa, child: Child, now: float) -> None:
    """Rekey a CHILD_SA, unless that is in progress."""
    if child.state == ChildState.INSTALLED:
        child.soft_at = child.soft_bytes = child.soft_packets = None
        sa.enqueue(CreateChild(child.configuration, child), now)


def expire_child(sa: IkeSa, child: Child, now: float) -> None:
    """Delete a CHILD_SA at its hard limit."""
    child.hard_at = None
    if child.state != ChildState.DELETING:
        sa.enqueue(DeleteChild(child, DeleteReason.EXPIRED), now)


def _reached(value: int, limit: int | None) -> bool:
    return limit is not None and value >= limit


def _handle_child(sa: IkeSa, child: Child, now: float) -> None:
    if child.hard_at is not None and child.hard_at <= now:
        expire_child(sa, child, now)
    elif child.soft_at is not None and child.soft_at <= now:
        rekey_child(sa, child, now)


def _dpd_at(sa: IkeSa) -> float | None:
    delay = sa.session.connection.dpd_delay
    if delay is None or sa.sending:
        return None
    return sa.session.last_inbound + delay


def _keepalive_at(sa: IkeSa) -> float | None:
    interval = sa.session.connection.keepalive_interval
    if interval is None or not sa.session.nat.local:
        return None
    return sa.session.last_outbound + interval


def _handle_silence(sa: IkeSa, now: float) -> None:
    keepalive, dpd = _keepalive_at(sa), _dpd_at(sa)
    if dpd is not None and dpd <= now:
        sa.enqueue(Liveness(), now)
    elif keepalive is not None and keepalive <= now:
        sa.session.last_outbound = now
        sa.host.send(Datagram(KEEPALIVE, sa.session.path))
