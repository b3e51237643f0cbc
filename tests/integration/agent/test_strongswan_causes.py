"""On two real charons: each way in which a negotiation fails, from what both say of it to the sentence that an operator reads.

The agent holds raw keys only. Secrets and certificates are given to charon by hand, in connections under the tunnel's own names, as a
gateway of somebody else has them. Every case runs with error-notify's records (VICI's `alert` where charon has it), and with charon's log.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from warren_agent.drivers.port import AttemptFailed
from warren_agent.drivers.strongswan.connections import build_connection
from warren_agent.drivers.strongswan.vici_codec import build_message, parse_message, subsections
from warren_agent.telemetry.messages import telemetry_message
from warren_contracts.explanation import Cause, Explanation
from warren_contracts.peers import PeerRecord
from warren_contracts.status import FleetTunnel, ReasonCode, TunnelState
from warren_contracts.telemetry import AgentState, Presence, Report
from warren_intent.diagnosis import End, Situation, explain
from warren_testkit.agent.fakes import FakeOutlet
from warren_testkit.ikev2.keys import Authority, certificate_pem, make_key, private_pem
from warren_testkit.intent import STAR
from warren_testkit.lab.agents import gateway_record
from warren_testkit.lab.explained import Explained
from warren_testkit.lab.gateways import Ends, Gateway, Watched
from warren_testkit.lab.vici_control import Vici
from warren_testkit.waiting import eventually

pytestmark = [pytest.mark.root, pytest.mark.interop, pytest.mark.strongswans]

NAME = "hub+spoke"
LIMIT = 90.0  # s; the lab's charons give a silent peer up after 6
UNKNOWN_KEY = "A" * 43 + "="
SECRET, OTHER_SECRET = b"of the hub and the spoke", b"of somebody else"


@pytest.fixture(params=["records", "log"])
def source(request: pytest.FixtureRequest) -> str:
    """Where the reasons come from: error-notify's records or VICI's `alert`, or charon's log."""
    return str(request.param)


@pytest.fixture
async def observed(source: str, both: tuple[Gateway, Gateway], tmp_path: Path) -> AsyncIterator[Ends]:
    """A driver that changes nothing of what others load on each of two gateways, with one source of reasons or the other."""
    hub, spoke = (Watched(gateway, correct_drift=False) for gateway in both)
    if source == "log":
        for end in (hub, spoke):
            end._new_driver(tmp_path / "missing")
    await asyncio.gather(hub.start(), spoke.start())
    yield hub, spoke
    await asyncio.gather(hub.stop(), spoke.stop())


async def desire(ends: Ends, at_hub: Mapping[str, Any], at_spoke: Mapping[str, Any]) -> None:
    """The tunnel at both ends, each with changes of its own."""
    hub, spoke = ends
    await hub.driver.create_tunnel(hub.tunnel(spoke, initiator=False, **at_hub))
    await spoke.driver.create_tunnel(spoke.tunnel(hub, initiator=True, **at_spoke))


async def load_by_hand(end: Watched, **sections: Any) -> None:
    """Other values in the tunnel's connection, under the same names."""
    record = end.driver._records[NAME]
    assert record.config is not None
    abilities = await end.driver._charon.abilities()
    built = build_connection(record.config, record.desired.connection, record.desired.children, abilities)
    (section,) = subsections(parse_message(build_message(built))).values()
    Vici(end.gateway.charon).load(str(record.desired.connection), {**section, **sections})


async def concluded(ends: Ends) -> Explanation:
    """What is concluded now from what both drivers report."""
    found = []
    for it in ends:
        record = it.driver._records[NAME]
        found.append(End(it.gateway.name, await it.driver.tunnel_status(NAME), config=record.config))
    statuses = {end.peer: end.status for end in found if end.status is not None}
    tunnel = FleetTunnel(name=NAME, state=TunnelState.ERROR, peers=tuple(statuses), ends=statuses)
    return explain(Situation(tunnel, tuple(found), datetime.now(UTC)))


class Case(NamedTuple):
    """A failure: what is wrong at each end, what is concluded, and what the sentence must say."""

    cause: Cause
    says: str
    hub: Mapping[str, Any] = MappingProxyType({})
    spoke: Mapping[str, Any] = MappingProxyType({})
    prepare: Callable[[Watched, Watched], Awaitable[None]] | None = None
    only_in_log: bool = False  # the records of error-notify and `alert` do not say as much


def secrets(at_hub: bytes | None, at_spoke: bytes | None, **more: Any) -> Callable[[Watched, Watched], Awaitable[None]]:
    """Both ends authenticate by a pre-shared key; None: an end has none."""

    async def prepare(hub: Watched, spoke: Watched) -> None:
        for end, peer, secret in ((hub, spoke, at_hub), (spoke, hub, at_spoke)):
            own, other = f"fqdn:{end.gateway.name}", f"fqdn:{peer.gateway.name}"
            proposals = more.get("proposals", {}).get(end.gateway.name)
            changes = {key: value for key, value in more.items() if key != "proposals"}
            await load_by_hand(
                end, local={"auth": "psk", "id": own}, remote={"auth": "psk", "id": other},
                **changes, **({"proposals": proposals} if proposals else {}),
            )  # fmt: skip
            if secret is not None:
                Vici(end.gateway.charon).load_shared("by-hand", "IKE", secret, own, other)

    return prepare


def certificate(
    *,
    expired: bool = False,
    of_another_authority: bool = False,
    revoked: bool = False,
    ahead: timedelta = timedelta(),
) -> Callable[[Watched, Watched], Awaitable[None]]:
    """The spoke authenticates by a certificate, and the hub has the CA that should have issued it."""

    async def prepare(hub: Watched, spoke: Watched) -> None:
        authority, key = Authority.make(), make_key("ecdsa-p256")
        issuer = Authority.make("Another Root") if of_another_authority else authority
        own = issuer.issue("spoke.example", key, expired=expired, ahead=ahead)
        with Vici(spoke.gateway.charon).session() as session:
            session.load_key({"type": "any", "data": private_pem(key)})
        if revoked:
            crl = authority.revocation_list([own]).public_bytes(Encoding.PEM)
            with Vici(hub.gateway.charon).session() as session:
                session.load_cert({"type": "X509_CRL", "flag": "NONE", "data": crl})
        remote = {"auth": "pubkey", "id": "fqdn:spoke.example", "cacerts": [certificate_pem(authority.certificate)]}
        await load_by_hand(hub, remote={**remote, "revocation": "strict" if revoked else "relaxed"})
        local = {"auth": "pubkey", "id": "fqdn:spoke.example", "certs": [certificate_pem(own)]}
        await load_by_hand(spoke, local=local, send_cert="always")

    return prepare


async def require_another_identity(hub: Watched, spoke: Watched) -> None:
    """The spoke expects one of several, so that it does not say whom (RFC 7296, 3.5), and gets somebody else."""
    await secrets(SECRET, SECRET)(hub, spoke)
    await load_by_hand(
        spoke, local={"auth": "psk", "id": "fqdn:spoke"}, remote={"auth": "psk", "id": "fqdn:*.example.org"}
    )
    for end in (hub, spoke):
        Vici(end.gateway.charon).load_shared("any", "IKE", SECRET)


async def lose_the_private_key(hub: Watched, spoke: Watched) -> None:
    own = certificate_pem(Authority.make().issue("spoke.example", make_key("ecdsa-p256")))
    await load_by_hand(spoke, local={"auth": "pubkey", "id": "fqdn:spoke.example", "certs": [own]})


OTHER_IKE = {"ike": {"proposals": ["aes256gcm16-prfsha512-ecp384"]}}
CASES = {
    "IKE proposals": Case(
        Cause.PROPOSAL_MISMATCH_IKE,
        "spoke offers aes256gcm16-prfsha512-ecp384 for IKE, hub accepts aes256gcm16-prfsha384-x25519",
        spoke=OTHER_IKE,
    ),
    "IKE proposals, IKEv1": Case(
        Cause.PROPOSAL_MISMATCH_IKE, "for IKE",
        prepare=secrets(
            SECRET, SECRET, version="1", proposals={"hub": ["aes256-sha256-modp2048"], "spoke": ["aes128-sha256-modp2048"]}
        ),
        only_in_log=True,
    ),
    "ESP proposals": Case(
        Cause.PROPOSAL_MISMATCH_CHILD, "spoke offers aes128-sha256 for ESP, hub accepts aes256gcm16-x25519",
        spoke={"child": {"proposals": ["aes128-sha256"]}},
    ),
    "selectors": Case(
        Cause.SELECTORS_REFUSED, "spoke asks for 10.2.0.0/24 to 10.99.0.0/24. hub has 10.1.0.0/24 to 10.2.0.0/24",
        spoke={"child": {"remote_ts": ["10.99.0.0/24"]}},
    ),
    "the kernel of the answering end": Case(  # which charon answers with TS_UNACCEPTABLE
        Cause.INSTALL_FAILED, "hub cannot install",
        hub={"child": {"local_ts": ["10.50.0.0/24"]}}, spoke={"child": {"remote_ts": ["10.50.0.0/24"]}},
    ),
    "the kernel of the calling end": Case(
        Cause.INSTALL_FAILED, "spoke cannot install",
        hub={"child": {"remote_ts": ["10.50.0.0/24"]}}, spoke={"child": {"local_ts": ["10.50.0.0/24"]}},
    ),
    "unknown identity": Case(
        Cause.AUTHENTICATION_FAILED, "hub refuses the authentication of spoke",
        spoke={"link": {"local_auth": {"kind": "raw-key", "identity": "fqdn:unknown", "public_key": UNKNOWN_KEY}}},
    ),
    "another raw key": Case(
        Cause.AUTHENTICATION_FAILED, f"it expects identity fqdn:spoke with the key {UNKNOWN_KEY[:12]}",
        hub={"link": {"remote_auth": {"kind": "raw-key", "identity": "fqdn:spoke", "public_key": UNKNOWN_KEY}}},
    ),
    "another secret": Case(Cause.AUTHENTICATION_FAILED, "hub refuses", prepare=secrets(SECRET, OTHER_SECRET)),
    "no secret at the calling end": Case(Cause.AUTHENTICATION_FAILED, "spoke", prepare=secrets(SECRET, None)),
    "no private key": Case(Cause.AUTHENTICATION_FAILED, "spoke", prepare=lose_the_private_key),
    "another identity is required": Case(
        Cause.IDENTITY_MISMATCH, "spoke refuses the identity of hub", prepare=require_another_identity, only_in_log=True
    ),
    "an expired certificate": Case(
        Cause.CERTIFICATE_EXPIRED, "The certificate of spoke has expired", prepare=certificate(expired=True)
    ),
    "an unknown authority": Case(
        Cause.CERTIFICATE_UNKNOWN, "not of an authority that hub trusts", prepare=certificate(of_another_authority=True)
    ),
    "a revoked certificate": Case(
        Cause.CERTIFICATE_REVOKED, "The certificate of spoke was revoked", prepare=certificate(revoked=True)
    ),
    "a dead peer": Case(
        Cause.BLOCKED_UDP_500, "spoke gets no answer to IKE_SA_INIT from hub (192.0.2.99)",
        spoke={"remote_endpoints": ["192.0.2.99"]},
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
async def test_a_failure_is_concluded_from_what_both_charons_say(observed: Ends, case: Case, source: str) -> None:
    if case.only_in_log and source == "records":
        pytest.skip("only charon's log says so")
    hub, spoke = observed
    await desire(observed, case.hub, case.spoke)
    if case.prepare is not None:
        await case.prepare(hub, spoke)
    await spoke.driver.start_tunnel(NAME)
    found = await concluded(observed)

    async def is_concluded() -> bool:
        nonlocal found
        found = await concluded(observed)
        return found.cause is case.cause and case.says in found.sentence

    try:
        await eventually(is_concluded, LIMIT)
    except AssertionError:
        pytest.fail(f"{found}\n{hub.gateway.log[-3_000:]}\n{spoke.gateway.log[-3_000:]}")
    assert found.action


class Reporting:
    """What an agent next to a driver publishes, whose host's clock is off by `skew`."""

    def __init__(self, end: Watched, record: PeerRecord, skew: timedelta = timedelta()) -> None:
        self.gateway, self.record, self.skew = end.gateway, record, skew
        self._driver, self.outlet = end.driver, FakeOutlet()

    def all(self, _: type[Presence]) -> list[Presence]:
        return []  # the metrics service reads the skew of its heartbeats

    async def report(self) -> None:
        at = datetime.now(UTC) + self.skew
        beat = Presence(state="online", at=at, agent=AgentState.WATCH, started_at=at, version="1")
        bodies = (beat, Report(at=at, tunnels=(await self._driver.tunnel_status(NAME),)))
        self.outlet.messages += [telemetry_message(self.gateway.name, it) for it in bodies]


async def test_a_certificate_of_a_host_whose_clock_is_ahead(observed: Ends) -> None:
    """The spoke and its authority are an hour ahead: to the hub the certificate is not valid yet."""
    hub, spoke = observed
    at_hub = Reporting(hub, gateway_record(hub.gateway, "hub"))
    at_spoke = Reporting(spoke, gateway_record(spoke.gateway, "branch"), skew=timedelta(hours=1))
    explained = Explained(NAME, STAR, at_hub, at_spoke)
    await desire(observed, {}, {})
    reporting = asyncio.create_task(_report_both(at_hub, at_spoke))
    try:
        await certificate(ahead=timedelta(hours=1))(hub, spoke)
        await spoke.driver.start_tunnel(NAME)
        await explained.concludes(
            Cause.CLOCK_SKEW, "hub does not accept a certificate", "the clock of spoke is +3600 s off", "timedatectl"
        )
        at_spoke.skew = timedelta()
        await certificate()(hub, spoke)
        await spoke.driver.start_tunnel(NAME)
        await explained.is_up()
    finally:
        reporting.cancel()


async def _report_both(*ends: Reporting) -> None:
    while True:
        for end in ends:
            await end.report()
        await asyncio.sleep(0.2)


async def test_another_group_that_the_peer_asks_for_is_no_failure(observed: Ends) -> None:
    """INVALID_KE_PAYLOAD (RFC 7296, 1.3): the initiator begins again with the group that it names."""
    hub, spoke = observed
    both = ["aes256gcm16-prfsha384-ecp256", "aes256gcm16-prfsha384-x25519"]
    await desire(observed, {}, {"ike": {"proposals": both}})
    await spoke.driver.start_tunnel(NAME)
    await asyncio.gather(hub.converged(), spoke.converged())
    assert "it requested CURVE_25519" in spoke.gateway.log
    failures = [event for end in observed for event in end.events if isinstance(event, AttemptFailed)]
    assert {it.code for it in failures} <= {ReasonCode.PEER_UNREACHABLE}  # the first request was repeated
    assert (await concluded(observed)).cause is not Cause.PROPOSAL_MISMATCH_IKE
