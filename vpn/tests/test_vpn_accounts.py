"""Sessions, their traffic and refusals by kind, from the engine's events and the reports of the data process."""

from collections.abc import Callable
from datetime import UTC, datetime
from ipaddress import ip_address
from typing import Any

import pytest

from warren_ikev2.addresses import Path, SocketAddress
from warren_ikev2.admission import NO_CONNECTION
from warren_ikev2.constants import NotifyType
from warren_ikev2.dataplane.control import ChildStatistics
from warren_ikev2.events import (
    AuthenticationFailed,
    ChildSaDeleted,
    ChildSaEstablished,
    ChildSaFailed,
    ChildSaRekeyed,
    DatagramDropped,
    DeleteReason,
    Event,
    HandshakeFailed,
    IkeSaDeleted,
    IkeSaEstablished,
    NatSituation,
    NetworkAttributes,
    RequestRefused,
    SessionId,
    SessionRole,
)
from warren_ikev2.identity import Identity
from warren_ikev2.suites import ike_suite
from warren_testkit.ikev2.dataplane import child
from warren_testkit.ikev2.proposals import parse_ike_proposal
from warren_vpn.server.accounts import Account, Accounts, Traffic

PATH = Path(SocketAddress(ip_address("192.0.2.1"), 4500), SocketAddress(ip_address("198.51.100.7"), 4500))
ONE = SessionId(1)


class Clock:
    """Calls that are due later are made by `advance`."""

    def __init__(self) -> None:
        self.calls: list[tuple[float, Callable[[], None]]] = []

    def later(self, seconds: float, call: Callable[[], None]) -> None:
        self.calls.append((seconds, call))

    def advance(self) -> None:
        calls, self.calls = self.calls, []
        for _, call in calls:
            call()


def established(user: str = "alice") -> IkeSaEstablished:
    suite = ike_suite(parse_ike_proposal("aes256gcm16-prfsha384-x25519"))
    return IkeSaEstablished(
        ONE, "key-alice", SessionRole.RESPONDER, bytes(8), bytes(8), suite, Identity.parse("vpn"),
        Identity.parse("alice"), PATH, NatSituation(), "pubkey", "pubkey", None,
        NetworkAttributes((ip_address("10.66.0.9"),)), user=user,
    )  # fmt: skip


def report(spi: int, number: int, *, removed: bool = False) -> ChildStatistics:
    return ChildStatistics(spi, 100 * number, number, 10 * number, 2 * number, 1 << 30, removed)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def accounts(clock: Clock) -> Accounts:
    return Accounts(lambda: datetime.now(UTC), clock.later)


def test_traffic_survives_rekeying(accounts: Accounts, clock: Clock) -> None:
    old, new = child(number=1), child(number=2)
    for event in (established(), ChildSaEstablished(ONE, old)):
        accounts.take_event(event)
    account = accounts.sessions[ONE]
    accounts.take_statistics([report(old.spi_in, 3), report(999, 50)])
    assert account.traffic == Traffic(300, 3, 30, 6)
    accounts.take_event(ChildSaRekeyed(ONE, old, new, True))
    accounts.take_event(ChildSaDeleted(ONE, old, DeleteReason.REKEYED))
    accounts.take_statistics([report(old.spi_in, 4, removed=True), report(new.spi_in, 1)])
    clock.advance()
    accounts.take_statistics([report(old.spi_in, 4, removed=True), report(new.spi_in, 2)])
    assert account.traffic == Traffic(600, 6, 60, 12)
    assert account.rekeys == 1
    assert accounts.logins == 1


def test_the_last_report_of_a_session_counts(accounts: Accounts, clock: Clock) -> None:
    closed: list[tuple[Account, str]] = []
    accounts.on_closed = lambda account, reason: closed.append((account, reason))
    one = child()
    for event in (established(), ChildSaEstablished(ONE, one), ChildSaDeleted(ONE, one, DeleteReason.PEER)):
        accounts.take_event(event)
    accounts.take_event(IkeSaDeleted(ONE, "key-alice", DeleteReason.PEER))
    accounts.take_statistics([report(one.spi_in, 7, removed=True)])
    assert not accounts.sessions
    assert not closed
    clock.advance()
    ((account, reason),) = closed
    assert (account.user, reason, account.traffic.bytes_in) == ("alice", "peer", 700)


def test_a_session_is_its_users_whatever_was_proved(accounts: Accounts) -> None:
    accounts.take_event(established("carol"))
    assert [account.id for account in accounts.of_user("carol")] == [ONE]
    assert accounts.of_user("alice") == []


def failed(connection: str | None, reason: str) -> AuthenticationFailed:
    return AuthenticationFailed(ONE, connection, PATH, "alice", reason, False)


def handshake(notify: int | None, reason: str = "") -> HandshakeFailed:
    return HandshakeFailed(ONE, None, PATH, notify, reason)


@pytest.mark.parametrize(
    ("event", "kind"),
    [
        (failed(None, "no connection"), "unknown-identity"),
        (failed("key-alice", "the signature is wrong"), "authentication"),
        (failed("key-alice", "alice is connected already"), "connected-already"),
        (handshake(NotifyType.NO_PROPOSAL_CHOSEN, NO_CONNECTION), "address-not-allowed"),
        (handshake(NotifyType.NO_PROPOSAL_CHOSEN), "algorithms"),
        (handshake(None), "handshake"),
        (ChildSaFailed(ONE, "", NotifyType.INTERNAL_ADDRESS_FAILURE, ""), "pool-exhausted"),
        (ChildSaFailed(ONE, "", NotifyType.FAILED_CP_REQUIRED, ""), "no-address-requested"),
        (ChildSaFailed(ONE, "", NotifyType.TS_UNACCEPTABLE, ""), "selectors"),
        (ChildSaFailed(ONE, "", 12345, ""), "child-sa"),
        (RequestRefused(ONE, "c", "e", "n", "r"), "request"),
    ],
)
def test_refusals_are_counted_by_kind(accounts: Accounts, event: Event, kind: str) -> None:
    accounts.take_event(event)
    assert accounts.refusals == {kind: 1}


def test_ignored_messages_are_counted_by_reason(accounts: Accounts) -> None:
    for reason in ("malformed", "malformed", "unknown-spi"):
        accounts.take_event(DatagramDropped(PATH, reason))
    assert accounts.datagrams == {"malformed": 2, "unknown-spi": 1}
    for number in range(1000):
        accounts.take_event(DatagramDropped(PATH, f"kind-{number}"))
    assert len(accounts.datagrams) == 64


def test_events_of_no_session_change_nothing(accounts: Accounts, clock: Clock) -> None:
    gone: Any = SessionId(9)
    for event in (ChildSaEstablished(gone, child()), IkeSaDeleted(gone, "c", DeleteReason.PEER)):
        accounts.take_event(event)
    clock.advance()
    assert not accounts.sessions
    assert accounts.logins == 0
