"""Routes that kernel-libipsec's packets need: what is missing is found by what charon carries, and repaired once."""

from collections.abc import Iterable, Mapping, Sequence
from ipaddress import ip_network

import pytest
from pydantic import BaseModel

from warren_agent.drivers.port import DriftFound, Reply
from warren_agent.drivers.strongswan.capabilities import CharonAbilities
from warren_agent.drivers.strongswan.connections import HandleName
from warren_agent.drivers.strongswan.convergence import DesiredHandles
from warren_agent.drivers.strongswan.routes import RouteAudit, carried
from warren_agent.drivers.strongswan.sas import IkeSa, parse_ike_sas
from warren_agent.drivers.strongswan.tunnel_record import TunnelRecord
from warren_agent.errors import GuardUnavailableError
from warren_contracts.status import ReasonCode
from warren_contracts.tunnel_routes import TunnelRoute, TunnelRoutesReply, TunnelRoutesRequest

LIBIPSEC = CharonAbilities("5.9.8", frozenset({"kernel-libipsec"}))
XFRM = CharonAbilities("5.9.8", frozenset({"kernel-netlink"}))


def sas(name: str, *networks: str, unique_id: int = 7, state: str = "INSTALLED") -> list[IkeSa]:
    """The SAs of a tunnel that carries packets to these networks."""
    child = {"name": str(HandleName(name, 1, "net")), "uniqueid": str(unique_id), "state": state}
    encoded: dict[str, bytes | list[bytes]] = {key: value.encode() for key, value in child.items()}
    encoded["remote-ts"] = [network.encode() for network in networks]
    ike = {"uniqueid": b"3", "state": b"ESTABLISHED", "child-sas": {"net-7": encoded}}
    return parse_ike_sas({str(HandleName(name, 1)): ike})  # type: ignore[dict-item]


class Bed:
    """Two tunnels of one charon, and a guard whose kernel has routes."""

    def __init__(self, *, correct: bool = True) -> None:
        self.records = {
            name: TunnelRecord(name, DesiredHandles(HandleName(name, 1), (HandleName(name, 1, "net"),), owner=True))
            for name in ("a", "b")
        }
        self.held = {"a": sas("a", "10.2.0.0/24", "10.3.0.0/24"), "b": sas("b", "10.4.0.0/24")}
        self.routes = ["10.2.0.0/24", "10.3.0.0/24", "10.4.0.0/24"]
        self.in_use, self.is_running = True, True
        self.asked = 0
        self.closed: list[tuple[str, frozenset[str]]] = []
        self.events: list[DriftFound] = []
        for name, found in self.held.items():
            self.records[name].observe(found, 0.0)
        self.audit = RouteAudit(self.records, self.read, self.close, self.events.append, correct=correct)
        self.audit.guard = self

    async def read(self, names: Iterable[str]) -> Mapping[str, Sequence[IkeSa]]:
        return {name: self.held[name] for name in names}

    async def close(self, name: str, found: Sequence[IkeSa], children: frozenset[str]) -> None:
        assert found == self.held[name]
        self.closed.append((name, children))

    async def exchange(self, request: BaseModel, reply: type[Reply]) -> Reply:
        assert isinstance(request, TunnelRoutesRequest)
        if not self.is_running:
            raise GuardUnavailableError("stopped")
        self.asked += 1
        found = tuple(TunnelRoute(destination=ip_network(it), device="ipsec0") for it in self.routes)
        return reply.model_validate(TunnelRoutesReply(in_use=self.in_use, routes=found).model_dump())


def reason_of(bed: Bed) -> ReasonCode:
    return bed.records["b"].reason


async def test_what_has_its_routes_is_left_alone_and_looked_at_only_when_something_changes() -> None:
    bed = Bed()
    for _ in range(3):
        await bed.audit.audit(LIBIPSEC)
    assert (bed.asked, bed.closed, bed.events) == (1, [], [])
    bed.audit.due = True
    await bed.audit.audit(LIBIPSEC)
    assert bed.asked == 2


async def test_the_child_sas_of_a_missing_route_are_closed_and_it_is_reported() -> None:
    bed = Bed()
    bed.routes.remove("10.3.0.0/24")
    await bed.audit.audit(LIBIPSEC)
    assert bed.closed == [("a", frozenset({"net"}))]
    (event,) = bed.events
    assert (event.name, event.code, event.corrected) == ("a", ReasonCode.CONFIG_DRIFT, True)
    assert "missing in table 220 (10.3.0.0/24)" in event.detail


async def test_where_drift_is_only_reported_it_is_the_reason_until_the_routes_are_back() -> None:
    bed = Bed(correct=False)
    bed.routes.clear()
    await bed.audit.audit(LIBIPSEC)
    assert bed.closed == []
    assert [event.corrected for event in bed.events] == [False, False]
    assert reason_of(bed) == ReasonCode.CONFIG_DRIFT
    bed.routes = ["10.2.0.0/24", "10.3.0.0/24", "10.4.0.0/24"]
    await bed.audit.audit(LIBIPSEC)  # at the next report
    assert reason_of(bed) == ReasonCode.NONE
    assert len(bed.events) == 2


async def test_what_charon_has_closed_meanwhile_is_no_loss() -> None:
    bed = Bed()
    bed.routes.clear()
    bed.held = {"a": [], "b": sas("b", "10.4.0.0/24", unique_id=8)}
    await bed.audit.audit(LIBIPSEC)
    assert (bed.closed, bed.events) == ([], [])


@pytest.mark.parametrize("abilities", [XFRM, None])
async def test_only_kernel_libipsec_needs_them(abilities: CharonAbilities | None) -> None:
    bed = Bed()
    bed.routes.clear()
    await bed.audit.audit(abilities)
    assert (bed.asked, bed.closed) == (0, [])


async def test_a_charon_with_another_table_is_left_alone() -> None:
    bed = Bed()
    bed.routes.clear()
    bed.in_use = False
    await bed.audit.audit(LIBIPSEC)
    assert (bed.closed, bed.events) == ([], [])


async def test_a_guard_that_does_not_answer_is_asked_again() -> None:
    bed = Bed()
    bed.routes.clear()
    bed.is_running = False
    await bed.audit.audit(LIBIPSEC)
    bed.is_running = True
    await bed.audit.audit(LIBIPSEC)
    assert [name for name, _ in bed.closed] == ["a", "b"]


def test_what_is_carried_are_networks_of_installed_child_sas() -> None:
    assert {str(it.network) for it in carried(sas("a", "10.2.0.0/24", "10.9.0.1/32[tcp/443]", "10.5.0.1..10.5.0.9"))} == {
        "10.2.0.0/24", "10.9.0.1/32",
    }  # fmt: skip
    assert not carried(sas("a", "10.2.0.0/24", state="REKEYED"))
