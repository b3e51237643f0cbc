"""The open sessions and the sign-in codes of this process. Pure, but for the randomness of the secrets.

Both are stored by the SHA-256 of their secret only. They live in memory: after a restart of the API server people sign in again.
"""

import math
import secrets
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256

from warren_api.sessions.credential import Credential

CODE_SECONDS = 60.0
MAX_CODES = 256  # that are not redeemed yet; the oldest gives way
MAX_SESSIONS = 4_096
MAX_OF_PRINCIPAL = 16  # browsers of one principal; the session that was used longest ago gives way
SECRET_BYTES = 32
MAX_SECRET = 64  # characters; longer ones are refused without hashing


@dataclass(slots=True)
class BrowserSession:
    """One signed-in browser. Times are of the store's clock."""

    credential: Credential
    principal: str
    expires_at: float
    used_at: float
    code: str = ""  # the digest of the code that opened it


@dataclass(frozen=True, slots=True)
class SignInGrant:
    """What a code stands for: a credential, and when a session that it opens ends at the latest."""

    credential: Credential
    until: float


@dataclass(frozen=True, slots=True)
class _Code:
    grant: SignInGrant
    expires_at: float


class SessionStore:
    """Opens, finds and closes sessions; issues and redeems codes. `lifetime` and `idle` in seconds."""

    def __init__(self, lifetime: float, idle: float, clock: Callable[[], float]) -> None:
        self._lifetime, self._idle, self._clock = lifetime, idle, clock
        self._sessions: OrderedDict[str, BrowserSession] = OrderedDict()  # the one that was used last is last
        self._codes: OrderedDict[str, _Code] = OrderedDict()

    def open(self, credential: Credential, principal: str, until: float = math.inf, code: str = "") -> str:
        """The secret of a new session, which ends at `until` at the latest. `code`: what opened it."""
        now = self._clock()
        self._drop_ended(now)
        own = [key for key, session in self._sessions.items() if session.principal == principal]
        if len(own) >= MAX_OF_PRINCIPAL:
            del self._sessions[own[0]]
        while len(self._sessions) >= MAX_SESSIONS:
            self._sessions.popitem(last=False)
        secret = secrets.token_urlsafe(SECRET_BYTES)
        opened_by = _digest(code) if code else ""
        self._sessions[_digest(secret)] = BrowserSession(
            credential, principal, min(until, now + self._lifetime), now, opened_by
        )
        return secret

    def find(self, secret: str) -> BrowserSession | None:
        """The session of a secret, which is used by this; None: it has ended, or never was."""
        key = _digest(secret)
        session = self._sessions.get(key)
        now = self._clock()
        if session is None:
            return None
        if self._has_ended(session, now):
            del self._sessions[key]
            return None
        session.used_at = now
        self._sessions.move_to_end(key)
        return session

    def seconds_left(self, session: BrowserSession) -> float:
        """Until a session ends, however much it is used."""
        return max(0.0, session.expires_at - self._clock())

    def close(self, secret: str) -> None:
        """End a session; one that has ended is fine."""
        self._sessions.pop(_digest(secret), None)

    def issue_code(self, credential: Credential, until: float = math.inf) -> str:
        """A code that opens one session for this credential, within CODE_SECONDS; it ends at `until` at the latest."""
        now = self._clock()
        while self._codes and (len(self._codes) >= MAX_CODES or next(iter(self._codes.values())).expires_at <= now):
            self._codes.popitem(last=False)
        code = secrets.token_urlsafe(SECRET_BYTES)
        self._codes[_digest(code)] = _Code(SignInGrant(credential, until), now + CODE_SECONDS)
        return code

    def redeem(self, code: str) -> SignInGrant | None:
        """What a code stands for, which is spent by this; None: unknown, spent or expired."""
        found = self._codes.pop(_digest(code), None)
        return found.grant if found is not None and found.expires_at > self._clock() else None

    def end_opened_by(self, code: str, unless: str | None) -> bool:
        """End the session that a spent code opened: who presents it now was robbed of it, or has stolen it (RFC 6749, 4.1.2).

        `unless`: the secret of a session that stays: a browser that presents its own code again. Returns whether one was ended.
        """
        digest = _digest(code)
        own = _digest(unless) if unless is not None else ""
        key = next((it for it, session in self._sessions.items() if digest and session.code == digest), None)
        if key is None or key == own:
            return False
        del self._sessions[key]
        return True

    def _has_ended(self, session: BrowserSession, now: float) -> bool:
        return session.expires_at <= now or session.used_at + self._idle <= now

    def _drop_ended(self, now: float) -> None:
        for key in [key for key, session in self._sessions.items() if self._has_ended(session, now)]:
            del self._sessions[key]


def _digest(secret: str) -> str:
    """Of a secret of any caller."""
    return sha256(secret.encode()).hexdigest() if len(secret) <= MAX_SECRET else ""
