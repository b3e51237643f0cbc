"""The audit of logins by raw key and certificate, and of what follows a verdict, from the engine's events."""

from warren_ikev2.events import (
    AuthenticationFailed,
    Event,
    HandshakeFailed,
    IkeSaEstablished,
    LoginRequested,
    SessionId,
)
from warren_ikev2.exchanges.uniqueness import CONNECTED_ALREADY
from warren_vpn.login.audit import LoginAudit, LoginResult

_METHODS = {"key": "raw-key", "certificate": "certificate", "password": "password"}
"""By the kind of connection that was tried, for refusals."""


class AuditedEvents:
    """The verifier of passwords records its own verdicts; everything else is recorded here."""

    def __init__(self, audit: LoginAudit) -> None:
        self._audit = audit
        self._with_verdict: set[SessionId] = set()

    def take_event(self, event: Event) -> bool:
        """Record a login; False: the disk does not take it, and an established session must end."""
        try:
            self._record(event)
        except OSError:
            return False
        return True

    def _record(self, event: Event) -> None:
        match event:
            case LoginRequested():
                self._with_verdict.add(event.session)
            case HandshakeFailed():
                self._with_verdict.discard(event.session)
            case IkeSaEstablished():
                self._with_verdict.discard(event.session)
                if event.eap_identity is None:
                    method = "raw-key" if event.peer_certificate is None else "certificate"
                    self._audit.record(str(event.remote_identity), event.path.remote.host, method, LoginResult.ACCEPTED)
            case AuthenticationFailed(by_peer=False):
                decided = event.session in self._with_verdict
                self._with_verdict.discard(event.session)
                if not decided or event.reason.endswith(CONNECTED_ALREADY):
                    kind = (event.connection or "").partition("-")[0]
                    self._audit.record(
                        event.claimed_identity or "", event.path.remote.host, _METHODS.get(kind, ""), LoginResult.REFUSED, event.reason
                    )  # fmt: skip
