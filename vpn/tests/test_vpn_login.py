"""Failed logins are delayed and limited, verdicts take the same work for every user, and every login is audited."""

import asyncio
import json
import stat
from datetime import UTC, datetime
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path

import pytest

from warren_ikev2.addresses import Path as IkePath
from warren_ikev2.addresses import SocketAddress
from warren_ikev2.auth.login import GtcAttempt, LoginVerdict, Mschapv2Attempt
from warren_ikev2.auth.mschapv2 import nt_response, password_hash
from warren_ikev2.events import AuthenticationFailed, Event, IkeSaEstablished, LoginRequested
from warren_ikev2.identity import Identity
from warren_vpn.login.audit import LoginAudit, LoginResult
from warren_vpn.login.events import AuditedEvents
from warren_vpn.login.throttle import LoginLimits, LoginThrottle, Refusal
from warren_vpn.login.verifier import OVERLOADED, PasswordLogins
from warren_vpn.users.model import User
from warren_vpn.users.password import PasswordVerifier, make_nt_hash, make_verifier
from warren_vpn.users.store import UserFile

HOME, HOTEL, BOTNET = (ip_address(f"192.0.2.{number}") for number in (1, 2, 3))
PASSWORD = "correct horse battery"
NO_DELAY = LoginLimits(first_delay_s=0.0, longest_delay_s=0.0)
NOW = datetime(2026, 1, 1, tzinfo=UTC)


# The throttle


def fail(throttle: LoginThrottle, user: str, address: IPv4Address | IPv6Address, now: float) -> Refusal | float:
    refusal = throttle.admit(user, address, now)
    return refusal if refusal is not None else throttle.failed(user, address, now)


def test_delays_grow_and_end_with_a_success() -> None:
    throttle = LoginThrottle()
    assert [fail(throttle, "alice", HOME, 0.0) for _ in range(6)] == [1.0, 2.0, 4.0, 8.0, 8.0, 8.0]
    throttle.admit("alice", HOME, 0.0)
    throttle.succeeded("alice", HOME, 0.0)
    assert fail(throttle, "alice", HOTEL, 0.0) == 1.0
    assert fail(throttle, "alice", HOTEL, 2000.0) == 1.0  # long ago


def test_one_address_cannot_try_many_users() -> None:
    throttle = LoginThrottle(LoginLimits(per_address=3, address_refill_s=10.0))
    results = [fail(throttle, f"user{number}", BOTNET, 0.0) for number in range(5)]
    assert results[3:] == [Refusal.ADDRESS, Refusal.ADDRESS]
    assert throttle.admit("alice", HOME, 0.0) is None
    assert throttle.admit("user9", BOTNET, 10.0) is None


def test_addresses_of_one_ipv6_network_are_one() -> None:
    throttle = LoginThrottle(LoginLimits(per_address=2))
    taken = [throttle.admit(f"u{n}", ip_address(f"2001:db8::{n}"), 0.0) for n in (1, 2, 3)]
    assert taken == [None, None, Refusal.ADDRESS]
    assert throttle.admit("u4", ip_address("2001:db8:0:1::1"), 0.0) is None


def test_one_ipv6_site_is_a_few_addresses() -> None:
    """A /48, which one customer may have, holds 65,536 networks: they guess ten times as often as one, and no more."""
    throttle = LoginThrottle(LoginLimits(per_address=2, address_refill_s=30.0))
    networks = [ip_address(f"2001:db8:0:{number:x}::1") for number in range(100)]
    taken = [throttle.admit(f"u{number}", network, 0.0) for number, network in enumerate(networks)]
    assert taken == [None] * 20 + [Refusal.ADDRESS] * 80
    assert throttle.admit("u100", ip_address("2001:db8:1::1"), 0.0) is None
    throttle.succeeded("u0", networks[0], 0.0)  # gives its attempt back to the site as well
    assert throttle.admit("u101", networks[99], 0.0) is None
    assert throttle.admit("u102", networks[98], 0.0) is Refusal.ADDRESS
    assert throttle.admit("u102", networks[98], 3.0) is None


def test_many_addresses_cannot_try_one_user_nor_lock_it_out_where_it_was() -> None:
    throttle = LoginThrottle(LoginLimits(per_user=3))
    throttle.admit("alice", HOME, 0.0)
    throttle.succeeded("alice", HOME, 0.0)
    attempts = [throttle.admit("ALICE", ip_address(f"198.51.100.{n}"), 0.0) for n in range(5)]
    assert attempts == [None, None, None, Refusal.USER, Refusal.USER]
    assert throttle.admit("alice", HOTEL, 0.0) is Refusal.USER
    assert throttle.admit("alice", HOME, 0.0) is None


def test_successes_are_not_limited() -> None:
    throttle = LoginThrottle(LoginLimits(per_user=2, per_address=2))
    for _ in range(10):
        assert throttle.admit("alice", HOME, 0.0) is None
        throttle.succeeded("alice", HOME, 0.0)


# The audit


def test_the_audit_has_one_line_a_login_and_rotates(tmp_path: Path) -> None:
    path = tmp_path / "logins.jsonl"
    audit = LoginAudit(path, max_size=400, utc_now=lambda: NOW)
    for number in range(20):
        audit.record(f"user{number}\n\x1b[2J\u202e", HOME, "eap-gtc", LoginResult.REFUSED, "unknown user")
    lines = path.read_text().splitlines()
    assert json.loads(lines[-1]) == {
        "time": "2026-01-01T00:00:00.000Z", "user": "user19\n\x1b[2J\u202e", "address": "192.0.2.1", "method": "eap-gtc",
        "result": "refused", "reason": "unknown user",
    }  # fmt: skip
    assert "\x1b" not in path.read_text()
    assert path.read_text().isascii()
    files = sorted(file.name for file in tmp_path.iterdir())
    assert files == ["logins.jsonl", *(f"logins.jsonl.{number}" for number in range(1, 6))]
    assert all(file.stat().st_size <= 400 and stat.S_IMODE(file.stat().st_mode) == 0o600 for file in tmp_path.iterdir())


# The verifier


def make_user(name: str, *, nt_hash: bool = False, **fields: object) -> User:
    stored = make_nt_hash(PASSWORD) if nt_hash else None
    password = make_verifier(PASSWORD, bytes(16))
    values = {"name": name, "password": password, "nt_hash": stored, "created_at": NOW, "changed_at": NOW}
    return User.model_validate(values | fields)


class Server:
    """A verifier over a user file."""

    def __init__(self, folder: Path, limits: LoginLimits = NO_DELAY, queue: int = 64) -> None:
        self.users = UserFile(folder / "users.json")
        self.audit = folder / "logins.jsonl"
        self.logins = PasswordLogins(UserFile(self.users.path), LoginAudit(self.audit), limits, queue)

    def log_in(self, *attempts: GtcAttempt | Mschapv2Attempt) -> list[LoginVerdict]:
        async def run() -> list[LoginVerdict]:
            return await asyncio.gather(*(self.logins.verify(attempt, HOME) for attempt in attempts))

        return asyncio.run(run())

    def audited(self) -> list[tuple[str, str, str]]:
        entries = map(json.loads, self.audit.read_text().splitlines())
        return [(entry["user"], entry["result"], entry["reason"]) for entry in entries]


@pytest.fixture
def server(tmp_path: Path) -> Server:
    made = Server(tmp_path)
    made.users.edit(lambda users: users.with_user(make_user("alice", nt_hash=True)).with_user(make_user("bob")))
    return made


def mschapv2(user: str, password: str = PASSWORD) -> Mschapv2Attempt:
    challenge, own = bytes(range(16)), bytes(range(16, 32))
    return Mschapv2Attempt(user, challenge, own, nt_response(challenge, own, user, password_hash(password)))


def test_verdicts_and_their_reasons(server: Server) -> None:
    server.users.edit(lambda users: users.with_user(make_user("carol", disabled=True)))
    attempts: list[GtcAttempt | Mschapv2Attempt] = [
        GtcAttempt("alice", PASSWORD), GtcAttempt("Alice", PASSWORD), GtcAttempt("alice", "wrong"), GtcAttempt("eve", PASSWORD),
        GtcAttempt("carol", PASSWORD), mschapv2("alice"), mschapv2("alice", "wrong"), mschapv2("bob"), mschapv2("eve"),
    ]  # fmt: skip
    verdicts = [verdict for attempt in attempts for verdict in server.log_in(attempt)]
    assert [verdict.accepted for verdict in verdicts] == [True, True, False, False, False, True, False, False, False]
    assert verdicts[1].user == "alice"
    assert verdicts[5].proof is not None
    assert len(verdicts[5].proof.msk) == 64
    assert all(verdict.proof is None for verdict in verdicts if not verdict.accepted)
    assert [reason for _, _, reason in server.audited()] == [
        "", "", "invalid user name or password", "unknown user", "the user is disabled", "", "invalid user name or password",
        "the user has no NT hash for eap-mschapv2", "unknown user",
    ]  # fmt: skip
    assert PASSWORD not in server.audit.read_text()


def test_every_user_costs_the_same_work(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    accepts = PasswordVerifier.accepts

    def counting(verifier: PasswordVerifier, password: str) -> bool:
        asked.append(password)
        return accepts(verifier, password)

    monkeypatch.setattr(PasswordVerifier, "accepts", counting)
    server.log_in(GtcAttempt("alice", "wrong"), GtcAttempt("nobody", "wrong"))
    assert asked == ["wrong", "wrong"]


def test_an_unusable_user_file_or_audit_refuses(server: Server) -> None:
    server.users.path.chmod(0o644)
    for _ in range(20):  # none of them is a failure of the user's
        (verdict,) = server.log_in(GtcAttempt("alice", PASSWORD))
        assert (verdict.accepted, verdict.undecided) == (False, True)
    assert "chmod 600" in server.audited()[-1][2]
    server.users.path.chmod(0o600)
    assert server.log_in(GtcAttempt("alice", PASSWORD))[0].accepted
    server.audit.unlink()
    server.audit.mkdir()
    with pytest.raises(IsADirectoryError):
        server.log_in(GtcAttempt("alice", PASSWORD))  # the engine refuses what its verifier raises


def test_more_than_the_queue_is_refused_at_once(tmp_path: Path) -> None:
    server = Server(tmp_path, queue=2)
    verdicts = server.log_in(*(GtcAttempt(f"user{number}", "wrong") for number in range(5)))
    assert [verdict.reason for verdict in verdicts if verdict.undecided] == [OVERLOADED] * 3


def test_what_has_waited_for_too_long_is_not_verified_and_no_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("warren_vpn.login.verifier.LONGEST_WAIT_SECONDS", -1.0)
    server = Server(tmp_path, LoginLimits(per_user=1))
    server.users.edit(lambda users: users.with_user(make_user("alice")))
    (late,) = server.log_in(GtcAttempt("alice", PASSWORD))
    assert (late.reason, late.undecided) == (OVERLOADED, True)
    monkeypatch.undo()
    assert server.log_in(GtcAttempt("alice", PASSWORD))[0].accepted


def test_a_limited_user_is_refused_with_the_right_password(tmp_path: Path) -> None:
    server = Server(tmp_path, LoginLimits(per_user=2, first_delay_s=0.0, longest_delay_s=0.0))
    server.users.edit(lambda users: users.with_user(make_user("alice")))
    wrong = [GtcAttempt("alice", "wrong")] * 4
    reasons = [verdict.reason for verdict in server.log_in(*wrong)]
    assert reasons.count(Refusal.USER.value) == 2  # also of attempts at the same time
    assert server.log_in(GtcAttempt("alice", PASSWORD))[0].reason == Refusal.USER.value


# Logins without a password


def event_of(kind: type[Event], **fields: object) -> Event:
    """An event with the fields that the audit reads."""
    event = kind.__new__(kind)
    for name, value in fields.items():
        object.__setattr__(event, name, value)
    return event


def test_keys_certificates_and_what_follows_a_verdict_are_audited(tmp_path: Path) -> None:
    path = tmp_path / "logins.jsonl"
    audit = AuditedEvents(LoginAudit(path))
    way = IkePath(SocketAddress(ip_address("192.0.2.9"), 4500), SocketAddress(HOME, 4500))
    established = {
        "path": way,
        "remote_identity": Identity.parse("alice"),
        "eap_identity": None,
        "peer_certificate": None,
    }
    refused = {"path": way, "claimed_identity": "eve", "by_peer": False}
    events = [
        event_of(IkeSaEstablished, session=1, **established),
        event_of(IkeSaEstablished, session=2, **established | {"peer_certificate": b"der"}),
        event_of(IkeSaEstablished, session=3, **established | {"eap_identity": "alice"}),  # recorded by the verifier
        event_of(LoginRequested, session=4),
        event_of(AuthenticationFailed, session=4, connection="password", reason="unknown user", **refused),  # and this
        event_of(AuthenticationFailed, session=5, connection="key-eve", reason="invalid signature", **refused),
        event_of(AuthenticationFailed, session=6, connection=None, reason="no connection", **refused),
    ]
    assert all(audit.take_event(event) for event in events)
    lines = map(json.loads, path.read_text().splitlines())
    assert [(line["user"], line["method"], line["result"], line["reason"]) for line in lines] == [
        ("alice", "raw-key", "accepted", ""), ("alice", "certificate", "accepted", ""),
        ("eve", "raw-key", "refused", "invalid signature"), ("eve", "", "refused", "no connection"),
    ]  # fmt: skip
    path.unlink()
    path.mkdir()
    assert not audit.take_event(events[0])
