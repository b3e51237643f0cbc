"""The state of an endpoint: its IKE_SAs and sessions, the SPIs in use, and the queues of datagrams and events.

The implementation of `admission.AdmissionHost`, that is of what an IKE_SA and admission need from their endpoint.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from itertools import count

from warren_ikev2.addresses import Datagram
from warren_ikev2.configuration import EndpointConfiguration
from warren_ikev2.cookies import CookieGenerator
from warren_ikev2.errors import CommandError
from warren_ikev2.events import (
    ChildSaDeleted,
    DatagramDropped,
    DeleteReason,
    Event,
    HintReceived,
    IkeSaDeleted,
    SessionId,
    State,
)
from warren_ikev2.fragments import FragmentBudget
from warren_ikev2.half_open import HalfOpen
from warren_ikev2.identity import Identity
from warren_ikev2.ike_sa import IkeSa, IkeSession
from warren_ikev2.leases import AddressLeases
from warren_ikev2.randomness import RandomBytes
from warren_ikev2.session import Child

_SPARE_SPIS = 16  # SPIs of a session without CHILD_SA before the old ones are freed
_EAP_USER, _USER = -1, -2  # no types of identities
_DIAGNOSTICS = (DatagramDropped, HintReceived)


class EndpointState:
    """See the module; `ike_sa.Host` and `admission.AdmissionHost` document the calls."""

    def __init__(
        self, configuration: EndpointConfiguration, random_bytes: RandomBytes, utc_now: Callable[[], datetime]
    ) -> None:
        self.configuration = configuration
        self.random_bytes = random_bytes
        self.utc_now = utc_now
        self.leases = AddressLeases()
        self.half_open = HalfOpen(configuration.limits)
        self.cookies = CookieGenerator(random_bytes)
        self.unauthenticated_fragments = FragmentBudget(configuration.limits.unauthenticated_fragment_bytes)
        self.authenticated_fragments = FragmentBudget(configuration.limits.fragment_bytes)
        self.ike_sas: dict[bytes, IkeSa] = {}
        """By our SPI."""
        self.sessions: dict[SessionId, IkeSession] = {}
        self.child_sessions: dict[int, IkeSession] = {}
        """By each of our ESP SPIs, those of offers included."""
        self.datagrams: list[Datagram] = []
        self.events: deque[Event] = deque()
        self.touched: dict[bytes, IkeSa] = {}
        """The IKE_SAs whose deadline may have changed, by our SPI."""
        self._by_identity: dict[tuple[int, object], dict[SessionId, IkeSession]] = {}
        self._session_ids = count(1)

    # ike_sa.Host

    def emit(self, event: Event) -> None:
        """See Host. At the limit, diagnostics are dropped."""
        if len(self.events) < self.configuration.limits.events or not isinstance(event, _DIAGNOSTICS):
            self.events.append(event)

    def send(self, datagram: Datagram) -> None:
        """See Host."""
        self.datagrams.append(datagram)

    def new_ike_spi(self) -> bytes:
        """See Host."""
        while True:
            spi = self.random_bytes(8)
            if any(spi) and spi not in self.ike_sas:
                return spi

    def new_child_spi(self, session: IkeSession) -> int:
        """See Host; below 256 is reserved (RFC 4303, 2.1)."""
        spi = 0
        while spi <= 0xFF or spi in self.child_sessions:
            spi = int.from_bytes(self.random_bytes(4), "big")
        self.child_sessions[spi] = session
        session.spis.append(spi)
        if len(session.spis) > 2 * len(session.children) + _SPARE_SPIS:
            self._free_spis(session)
        return spi

    def _free_spis(self, session: IkeSession) -> None:
        """Free the SPIs of deleted CHILD_SAs; the newest few may belong to offers that are not answered yet."""
        newest = set(session.spis[-_SPARE_SPIS // 2 :])
        for spi in [spi for spi in session.spis if spi not in newest and spi not in session.children]:
            del self.child_sessions[spi]
            session.spis.remove(spi)

    def add(self, sa: IkeSa) -> None:
        """See Host."""
        self.ike_sas[sa.own_spi] = sa
        self.touch(sa)

    def touch(self, sa: IkeSa) -> None:
        """See Host."""
        self.touched[sa.own_spi] = sa

    def remove(self, sa: IkeSa) -> None:
        """See Host."""
        self.ike_sas.pop(sa.own_spi, None)
        self.half_open.remove(sa)

    def end(self, session: IkeSession, reason: DeleteReason, now: float) -> None:
        """See Host."""
        if self.sessions.pop(session.id, None) is None:
            return
        for child in session.children.values():
            self.emit(ChildSaDeleted(session.id, child.sa, reason))
        session.children.clear()
        self._forget_identity(session)
        for spi in session.spis:
            self.child_sessions.pop(spi, None)
        self.leases.release(session.id)
        if session.established:
            self.emit(IkeSaDeleted(session.id, session.connection.name, reason))

    def established(self, session: IkeSession) -> None:
        """See Host."""
        for key in _keys(session):
            self._by_identity.setdefault(key, {})[session.id] = session

    def sessions_with(self, identity: Identity, user: str | None = None) -> Sequence[IkeSession]:
        """See Host."""
        return list(self._by_identity.get(_key(identity, user), {}).values())

    def sessions_of(self, user: str) -> Sequence[IkeSession]:
        """See Host."""
        return list(self._by_identity.get((_USER, user), {}).values())

    def _forget_identity(self, session: IkeSession) -> None:
        for key in _keys(session):
            others = self._by_identity.get(key, {})
            others.pop(session.id, None)
            if not others:
                self._by_identity.pop(key, None)

    # admission.AdmissionHost

    @property
    def size(self) -> int:
        """See AdmissionHost."""
        return len(self.ike_sas)

    def new_session_id(self) -> SessionId:
        """See AdmissionHost."""
        return SessionId(next(self._session_ids))

    def open_session(self, session: IkeSession) -> None:
        """See AdmissionHost."""
        self.sessions[session.id] = session

    # Look-ups of the endpoint

    def is_known(self, sa: IkeSa) -> bool:
        """Whether messages are routed to this IKE_SA."""
        return self.ike_sas.get(sa.own_spi) is sa

    def established_ike_sa(self, session: SessionId) -> IkeSa:
        """Return the IKE_SA that carries a session. CommandError: the session is not established."""
        found = self.sessions.get(session)
        sa = None if found is None else found.ike_sa
        if sa is None or sa.state != State.ESTABLISHED:
            raise CommandError(f"session {session} is not established")
        return sa

    def child_of(self, session: SessionId, spi_in: int) -> tuple[IkeSa, Child]:
        """Return a CHILD_SA of an established session. CommandError: there is none with this SPI."""
        sa = self.established_ike_sa(session)
        child = sa.session.children.get(spi_in)
        if child is None:
            raise CommandError(f"session {session} has no CHILD_SA with the SPI {spi_in:#010x}")
        return sa, child

    def find_child(self, spi_in: int) -> tuple[IkeSa, Child] | None:
        """Return the CHILD_SA with our SPI, and its IKE_SA; None: unknown."""
        session = self.child_sessions.get(spi_in)
        if session is None or session.ike_sa is None:
            return None
        child = session.children.get(spi_in)
        return None if child is None else (session.ike_sa, child)


def _keys(session: IkeSession) -> Iterator[tuple[int, object]]:
    """What a session is found by."""
    if session.remote_identity is not None:
        yield _key(session.remote_identity, session.eap_user)
    if session.user:
        yield _USER, session.user


def _key(identity: Identity, user: str | None) -> tuple[int, object]:
    """What a peer has proved: with EAP only the user's name, for phones send any identity."""
    return identity.comparable if user is None else (_EAP_USER, user)
