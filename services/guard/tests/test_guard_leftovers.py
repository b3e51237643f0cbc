"""What belongs to CHILD_SAs that a daemon has lost, in what ip(8) prints of a kernel; nothing foreign does."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from warren_contracts.guard import ProtectRequest
from warren_contracts.leftovers import (
    Leftover,
    LeftoverKind,
    LeftoversRequest,
    OwnedSa,
    RemoveLeftoversRequest,
)
from warren_contracts.protection import ProtectedTraffic
from warren_guard.adapters.state_file import StateFile
from warren_guard.domain.ip_xfrm import parse_policies, parse_routes, parse_states
from warren_guard.domain.leftovers import KernelIpsec, find, removal
from warren_guard.guard import Guard
from warren_testkit.guard import FakeFirewall, FakeInspector, FakeKernel

# As charon 5.9.8 makes them and iproute2 6.1 prints them: one tunnel, a foreign one between other networks with the same
# peer, and charon's own socket policy.
STATES = """\
src 192.0.2.1 dst 192.0.2.2
\tproto esp spi 0xc1000002 reqid 1 mode tunnel
\treplay-window 0 flag af-unspec
\taead rfc4106(gcm(aes)) <<Keys hidden>> 128
\tanti-replay context: seq 0x0, oseq 0x3, bitmap 0x00000000
src 192.0.2.2 dst 192.0.2.1
\tproto esp spi 0x0a000001 reqid 1 mode tunnel
\tmark 0x10/0xff\x20
\tencap type espinudp sport 4500 dport 4500 addr 0.0.0.0
src 192.0.2.1 dst 192.0.2.2
\tproto esp spi 0xc9000009 reqid 2 mode tunnel
\treplay-window 0 flag af-unspec
"""
POLICIES = """\
src 10.1.0.0/24 dst 10.2.0.0/24 proto tcp dport 443 uid 0
\tdir out action allow index 1 priority 375423 ptype main share any flag  (0x00000000)
\ttmpl src 192.0.2.1 dst 192.0.2.2
\t\tproto esp spi 0xc1000002(3238002690) reqid 1(0x00000001) mode tunnel
\tif_id 0x7
src 10.2.0.0/24 dst 10.1.0.0/24 proto tcp sport 443 uid 0
\tdir fwd action allow index 18 priority 375423 ptype main share any flag  (0x00000000)
\tmark 0x10/0xff\x20
\ttmpl src 192.0.2.2 dst 192.0.2.1
\t\tproto esp spi 0x00000000(0) reqid 1(0x00000001) mode tunnel
\tif_id 0x7
src 10.2.0.0/24 dst 10.1.0.0/24 proto tcp sport 443 uid 0
\tdir in action allow index 8 priority 375423 ptype main share any flag  (0x00000000)
\tmark 0x10/0xff\x20
\ttmpl src 192.0.2.2 dst 192.0.2.1
\t\tproto esp spi 0x00000000(0) reqid 1(0x00000001) mode tunnel
\tif_id 0x7
src 10.1.0.0/24 dst 10.3.0.0/24 uid 0
\tdir out action allow index 33 priority 375423 ptype main share any flag  (0x00000000)
\ttmpl src 192.0.2.1 dst 192.0.2.2
\t\tproto esp spi 0xc9000009(3372220425) reqid 2(0x00000002) mode tunnel
src 10.3.0.0/24 dst 10.1.0.0/24 uid 0
\tdir in action allow index 40 priority 375423 ptype main share any flag  (0x00000000)
\ttmpl src 192.0.2.2 dst 192.0.2.1
\t\tproto esp reqid 2(0x00000002) mode tunnel
src 0.0.0.0/0 dst 0.0.0.0/0 uid 0
\tsocket in action allow index 3 priority 0 ptype main share any flag  (0x00000000)
src ::/0 dst ::/0 uid 0
\tdir out action block index 49 priority 0 ptype main share any flag  (0x00000000)
"""
ROUTES = """[{"dst":"10.2.0.0/24","gateway":"192.0.2.2","dev":"wan","protocol":"static","prefsrc":"10.1.0.1","flags":[]},
{"dst":"10.3.0.0/24","dev":"wan","protocol":"static","flags":[]},{"dst":"default","dev":"wan","flags":[]},
{"type":"throw","dst":"10.9.0.0/24","flags":[]}]"""
OWNED: dict[str, Any] = {
    "local": "192.0.2.1", "remote": "192.0.2.2", "spi_in": "0a000001", "spi_out": "c1000002", "if_id_in": 7, "mark_in": 16,
}  # fmt: skip


def kernel() -> KernelIpsec:
    routes = tuple(parse_routes(ROUTES, "0.0.0.0/0"))
    return KernelIpsec(tuple(parse_states(STATES)), tuple(parse_policies(POLICIES)), routes)


def owned(**changes: Any) -> OwnedSa:
    return OwnedSa.model_validate(OWNED | changes)


def described(found: Sequence[Leftover]) -> list[str]:
    return [removal(it) for it in found]


ALL = [
    "route delete 10.2.0.0/24 dev wan table 220",
    "xfrm policy delete index 18 dir fwd mark 0x10 mask 0xff if_id 0x7",
    "xfrm policy delete index 8 dir in mark 0x10 mask 0xff if_id 0x7",
    "xfrm policy delete index 1 dir out if_id 0x7",
    "xfrm state delete src 192.0.2.1 dst 192.0.2.2 proto esp spi 0xc1000002",
    "xfrm state delete src 192.0.2.2 dst 192.0.2.1 proto esp spi 0x0a000001 mark 0x10 mask 0xff",
]


def test_states_policies_and_routes_of_a_lost_sa_are_found_in_the_order_of_their_removal() -> None:
    assert len(kernel().policies) == 6
    assert described(find([owned()], kernel())) == ALL


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"spi_out": "c1000003"}, ALL[5:]),  # another end's SPI: its policy names an SA that is not ours
        ({"remote": "192.0.2.9"}, ALL[5:]),
        ({"local": "192.0.2.9", "remote": "192.0.2.8"}, []),
        ({"if_id_in": 8}, [ALL[0], *ALL[3:]]),
        ({"mark_in": 0}, [ALL[0], *ALL[3:]]),
    ],
)
def test_what_differs_in_address_spi_interface_or_mark_is_foreign(changes: dict[str, Any], expected: list[str]) -> None:
    assert described(find([owned(**changes)], kernel())) == expected


def test_a_route_that_another_policy_needs_stays() -> None:
    foreign = POLICIES.replace("dst 10.3.0.0/24 uid", "dst 10.2.0.0/24 uid")
    shared = KernelIpsec(kernel().states, tuple(parse_policies(foreign)), kernel().routes)
    assert described(find([owned()], shared)) == ALL[1:]


@pytest.fixture
def parts(tmp_path: Path) -> tuple[Guard, FakeFirewall, FakeKernel]:
    firewall, held = FakeFirewall(), FakeKernel()
    held.ipsec = kernel()
    return Guard(firewall, FakeInspector(), held, StateFile(tmp_path / "state"), keep_sources=False), firewall, held


async def test_exactly_what_was_asked_for_is_removed(parts: tuple[Guard, FakeFirewall, FakeKernel]) -> None:
    guard, _, held = parts
    found = await guard.handle_leftovers(LeftoversRequest(sas=(owned(),)))
    policies = tuple(it for it in found.leftovers if it.kind is LeftoverKind.POLICY)
    forged = policies[0].model_copy(update={"index": 40})
    removed = await guard.handle_leftovers(RemoveLeftoversRequest(sas=(owned(),), leftovers=(*policies, forged)))
    assert (removed.error, removed.leftovers) == ("", policies)
    assert held.lines == ALL[1:4]
    assert {it.index for it in held.ipsec.policies} == {33, 40, 49}
    again = await guard.handle_leftovers(LeftoversRequest(sas=(owned(),)))
    assert described(again.leftovers) == ALL[4:]


async def test_nothing_is_removed_while_the_table_is_missing(parts: tuple[Guard, FakeFirewall, FakeKernel]) -> None:
    guard, firewall, held = parts
    pairs = [{"local": ["10.1.0.0/24"], "remote": ["10.2.0.0/24"]}]
    await guard.handle(
        ProtectRequest(traffic=(ProtectedTraffic.model_validate({"policy": "p", "tunnel": "t", "pairs": pairs}),))
    )
    firewall.table, firewall.refusal = None, "nft: Error: busy"
    await guard.nftables_changed(None)
    leftovers = find([owned()], held.ipsec)
    reply = await guard.handle_leftovers(RemoveLeftoversRequest(sas=(owned(),), leftovers=leftovers))
    assert "the table is not in the kernel" in reply.error
    assert held.lines == []
