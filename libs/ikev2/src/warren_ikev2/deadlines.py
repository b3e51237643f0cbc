"""The time at which each IKE_SA has something to do: a login's limit, a retransmission, a liveness check, a lifetime, a keepalive."""

from warren_ikev2 import maintenance, retransmission
from warren_ikev2.endpoint_state import EndpointState
from warren_ikev2.exchanges.ike_auth_responder import login_deadline, refuse_late_login
from warren_ikev2.ike_sa import IkeSa
from warren_ikev2.timers import Timers


class Deadlines:
    """Timers of the IKE_SAs in `state`; the deadline of an IKE_SA is computed again when its entry is due."""

    def __init__(self, state: EndpointState) -> None:
        self._state = state
        self._timers = Timers(state.is_known)

    def next(self) -> float | None:
        """Return the earliest deadline, or None."""
        return self._timers.next()

    def handle(self, now: float) -> None:
        """Do what is due."""
        while (sa := self._timers.pop_due(now)) is not None:
            refuse_late_login(sa, now)
            retransmission.handle_timer(sa, now)
            maintenance.handle_timer(sa, now)
            self._state.touch(sa)
        self.update()

    def update(self) -> None:
        """Compute again the deadlines of the IKE_SAs that a call touched."""
        touched, self._state.touched = self._state.touched, {}
        for sa in touched.values():
            current = sa.session.ike_sa
            self._arm(sa)
            if current is not None and current is not sa:
                self._arm(current)

    def _arm(self, sa: IkeSa) -> None:
        if not self._state.is_known(sa):
            return
        # a failed handshake counts as half-open until its IKE_SA is removed: otherwise failing would cost a peer nothing
        if sa.session.established:
            self._state.half_open.remove(sa)
        deadlines = (login_deadline(sa), retransmission.deadline(sa), maintenance.deadline(sa))
        times = [time for time in deadlines if time is not None]
        self._timers.arm(sa, min(times, default=None))
