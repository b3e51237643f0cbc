"""Rekey and restart over HTTP: which end is asked, and who may ask."""

import pytest

from warren_api.orders import executing_end
from warren_contracts.commands import OrderTunnel, Role
from warren_contracts.problems import ConflictError, NotFoundError
from warren_contracts.status import ChildSaStatus, FleetTunnel, IpsecStatus, TunnelState, TunnelStatus
from warren_testkit.api.client import Client, problem

NAME = "hub+s1"


def tunnel(*reporting: str, stale: tuple[str, ...] = ()) -> FleetTunnel:
    link = IpsecStatus(
        children=tuple(
            ChildSaStatus(child=it, spi_in="c0ffee01", spi_out="c0ffee02", cipher="aes256gcm16")
            for it in ("net", "voice")
        )
    )
    ends = {
        peer: TunnelStatus(name=NAME, state=TunnelState.UP, initiator=peer == "s1", link=link)
        for peer in (*reporting, *stale)
    }
    return FleetTunnel(name=NAME, state=TunnelState.UP, peers=("hub", "s1"), ends=ends, stale=stale)


@pytest.mark.parametrize(
    ("found", "wanted", "end"),
    [
        (tunnel("hub", "s1"), None, "s1"),
        (tunnel("hub", "s1"), "hub", "hub"),
        (tunnel("hub", stale=("s1",)), None, "hub"),
        (tunnel("hub"), None, "hub"),
    ],
)
def test_the_initiator_executes_it_or_the_end_that_is_named_or_online(
    found: FleetTunnel, wanted: str | None, end: str
) -> None:
    assert executing_end(found, wanted) == end


def test_an_end_that_is_silent_or_unknown_is_not_asked() -> None:
    with pytest.raises(ConflictError, match="no agent reports"):
        executing_end(tunnel(stale=("hub", "s1")), None)
    with pytest.raises(ConflictError, match="agent of s1"):
        executing_end(tunnel("hub", stale=("s1",)), "s1")
    with pytest.raises(NotFoundError, match="not an end"):
        executing_end(tunnel("hub", "s1"), "s2")


async def test_an_order_reaches_the_registry_with_its_operator(api: Client) -> None:
    api.bus.tunnels[NAME] = tunnel("hub", "s1")
    done = await api.role(Role.OPERATOR).post("/api/tunnels/hub%2Bs1/rekey")
    assert (done.status_code, done.json()["peer"], done.json()["action"]) == (202, "s1", "rekey")
    assert (await api.post("/api/tunnels/hub%2Bs1/restart?peer=hub")).json()["peer"] == "hub"
    orders = [request for _, _, request in api.bus.calls if isinstance(request, OrderTunnel)]
    assert [(it.peer, it.tunnel, it.action.value) for it in orders] == [("s1", NAME, "rekey"), ("hub", NAME, "restart")]
    assert orders[0].actor == "the-operator"


async def test_an_order_may_name_one_sa_that_the_end_has(api: Client) -> None:
    api.bus.tunnels[NAME] = tunnel("hub", "s1")
    api.role(Role.OPERATOR)
    assert (await api.post("/api/tunnels/hub%2Bs1/rekey?sa=child%3Dnet")).json()["sa"] == "child=net"
    assert (await api.post("/api/tunnels/hub%2Bs1/rekey?sa=ike")).json()["sa"] == "ike"
    missing = await api.post("/api/tunnels/hub%2Bs1/restart?sa=child%3Dnat")
    problem(missing, 404, "not-found")
    assert "those of net, voice" in missing.json()["detail"]
    problem(await api.post("/api/tunnels/hub%2Bs1/rekey?sa=net"), 422, "invalid-input")
    orders = [request for _, _, request in api.bus.calls if isinstance(request, OrderTunnel)]
    assert [it.sa for it in orders] == ["child=net", "ike"]


async def test_an_order_needs_an_operator_and_a_tunnel(api: Client) -> None:
    api.bus.tunnels[NAME] = tunnel("hub", "s1")
    problem(await api.role(Role.VIEWER).post("/api/tunnels/hub%2Bs1/restart"), 403, "forbidden")
    api.role(Role.OPERATOR)
    problem(await api.post("/api/tunnels/nobody/restart"), 404, "not-found")
    problem(await api.post("/api/tunnels/hub%2Bs1/erase"), 404, "not-found")
    problem(await api.post("/api/tunnels/hub%2Bs1/rekey?peer=s2"), 404, "not-found")
    assert not [verb for service, verb, _ in api.bus.calls if service == "registry" and verb == "order_tunnel"]
