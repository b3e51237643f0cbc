"""Verdicts on logins for tests: real proofs over a table of passwords."""

from collections.abc import Callable, Collection, Mapping

from warren_ikev2.addresses import IPAddress
from warren_ikev2.auth.login import GtcAttempt, LoginAttempt, LoginVerdict
from warren_ikev2.auth.mschapv2 import password_hash

Verify = Callable[[LoginAttempt], LoginVerdict | None]
"""None: no verdict yet."""


def by_password(users: Mapping[str, str], with_nt_hash: Collection[str] = ()) -> Verify:
    """Accept these users by their passwords; by MSCHAPv2 only those `with_nt_hash`."""

    def verify(attempt: LoginAttempt) -> LoginVerdict:
        password = users.get(attempt.user)
        if isinstance(attempt, GtcAttempt):
            return LoginVerdict(attempt.password == password)
        proof = attempt.verify(password_hash(password if password is not None else "\x00"))
        known = attempt.user in with_nt_hash
        return LoginVerdict(known and proof is not None, proof=proof if known else None)

    return verify


class TableVerifier:
    """The same as the asyncio server takes it. `asked`: the users of all attempts so far."""

    def __init__(self, users: Mapping[str, str], with_nt_hash: Collection[str] = ()) -> None:
        self._verify = by_password(users, with_nt_hash)
        self.asked: list[str] = []

    async def verify(self, attempt: LoginAttempt, remote: IPAddress) -> LoginVerdict:
        """See `warren_ikev2.aio.logins.LoginVerifier`."""
        self.asked.append(attempt.user)
        verdict = self._verify(attempt)
        assert verdict is not None
        return verdict
