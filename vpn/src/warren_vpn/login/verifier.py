"""The verdicts on passwords that the engine asks for (`warren_ikev2.aio.logins.LoginVerifier`).

A user that does not exist, that is disabled or that has no NT hash is verified against a dummy, so it takes as long as a wrong
password and gets the same messages. Verification takes 32 MiB and one of two threads. The queue is bounded in length and time.
"""

import asyncio
import logging
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from warren_ikev2.addresses import IPAddress
from warren_ikev2.auth.eap_server import without_domain
from warren_ikev2.auth.login import REFUSED, GtcAttempt, LoginAttempt, LoginVerdict, Mschapv2Attempt, Mschapv2Proof
from warren_vpn.login.audit import LoginAudit, LoginResult
from warren_vpn.login.throttle import LoginLimits, LoginThrottle
from warren_vpn.users.errors import UserFileError
from warren_vpn.users.model import User
from warren_vpn.users.password import SALT_SIZE, PasswordVerifier, dummy_verifier
from warren_vpn.users.store import UserFile

logger = logging.getLogger("warren_vpn.login")

THREADS = 2
QUEUE = 512
"""Attempts that wait or are verified. A thousand clients that connect again at once take turns: 30 a second at 60 ms each."""
LONGEST_WAIT_SECONDS = 12.0
"""An attempt that has waited for longer is not verified any more: the engine would refuse it while it is."""
OVERLOADED = "too many logins at once"
_NT_HASH_SIZE = 16


class PasswordLogins:
    """The server's verifier of passwords. `stop` it at the end."""

    def __init__(
        self, users: UserFile, audit: LoginAudit, limits: LoginLimits | None = None, queue: int = QUEUE
    ) -> None:
        self._users = users
        self.audit = audit
        self._throttle = LoginThrottle(limits)
        self._dummy = dummy_verifier(os.urandom(SALT_SIZE))
        self._dummy_hash = os.urandom(_NT_HASH_SIZE)
        self._threads = ThreadPoolExecutor(THREADS, "login")
        self._queue = queue
        self._waiting = 0

    def stop(self) -> None:
        """Verify nothing any more."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def verify(self, attempt: LoginAttempt, remote: IPAddress) -> LoginVerdict:
        """Decide on an attempt; a refusal comes after the delay that `LoginThrottle` asks for."""
        loop = asyncio.get_running_loop()
        user = without_domain(attempt.user)
        if self._waiting >= self._queue:
            return self._refused(attempt, remote, OVERLOADED, undecided=True)
        refusal = self._throttle.admit(user, remote, loop.time())
        if refusal is not None:
            verdict = self._refused(attempt, remote, refusal.value)
        else:
            latest = loop.time() + LONGEST_WAIT_SECONDS
            verdict = await self._run(lambda: self._decide(attempt, user, remote, loop.time() > latest))
            if verdict.accepted:
                self.audit.record(verdict.user, remote, attempt.method, LoginResult.ACCEPTED)  # or it is refused
                self._throttle.succeeded(user, remote, loop.time())
                return verdict
            self._refused(attempt, remote, verdict.reason)
            if verdict.undecided:
                self._throttle.withdraw(user, remote, loop.time())
                return verdict
        await asyncio.sleep(self._throttle.failed(user, remote, loop.time()))
        return verdict

    async def _run(self, work: Callable[[], LoginVerdict]) -> LoginVerdict:
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work)
        finally:
            self._waiting -= 1

    def _refused(
        self, attempt: LoginAttempt, remote: IPAddress, reason: str, *, undecided: bool = False
    ) -> LoginVerdict:
        try:
            self.audit.record(attempt.user, remote, attempt.method, LoginResult.REFUSED, reason)
        except OSError as error:
            logger.error("audit.failed", extra={"fields": {"error": str(error)}})
        return LoginVerdict(False, reason, undecided=undecided)

    def _decide(self, attempt: LoginAttempt, name: str, remote: IPAddress, late: bool) -> LoginVerdict:
        """Runs in a thread. The work is the same whatever the user file says."""
        if late:
            return LoginVerdict(False, OVERLOADED, undecided=True)
        unusable = False
        try:
            user = self._users.read().find(name)
            problem = ""
        except UserFileError as error:
            user, problem, unusable = None, f"the user file cannot be used: {error}", True
        if isinstance(attempt, GtcAttempt):
            accepted, proof = self._verifier(user).accepts(attempt.password), None
        else:
            proof = self._prove(attempt, user)
            accepted = proof is not None
        problem = problem or _problem(user, attempt, remote)
        if problem or not accepted or user is None:
            return LoginVerdict(False, problem or REFUSED, undecided=unusable)
        return LoginVerdict(True, "", proof, user.name)

    def _verifier(self, user: User | None) -> PasswordVerifier:
        return self._dummy if user is None or user.password is None else user.password

    def _prove(self, attempt: Mschapv2Attempt, user: User | None) -> Mschapv2Proof | None:
        nt_hash = self._dummy_hash if user is None or user.nt_hash is None else user.nt_hash.hash
        return attempt.verify(nt_hash)


def _problem(user: User | None, attempt: LoginAttempt, remote: IPAddress) -> str:
    """Why the user cannot log in like this, whatever the password is; for the audit only."""
    if user is None:
        return "unknown user"
    if user.disabled:
        return "the user is disabled"
    if user.allow_from and not any(remote in network for network in user.allow_from):
        return "the user may not connect from this address"
    if isinstance(attempt, Mschapv2Attempt) and user.nt_hash is None:
        return "the user has no NT hash for eap-mschapv2"
    return "" if user.password is not None else "the user has no password"
