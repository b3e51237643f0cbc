"""What contradicts tunnels, found in nftables' own JSON."""

from typing import Any

import pytest

from warren_contracts.guard import FindingCode, HostFinding
from warren_guard.domain.findings import HostReadings, find

MASQUERADE = {"masquerade": None}
TO_WAN = {"match": {"op": "==", "left": {"meta": {"key": "oifname"}}, "right": "wan"}}
NO_IPSEC = {"match": {"op": "==", "left": {"rt": {"key": "ipsec"}}, "right": False}}
ESTABLISHED = {"match": {"op": "in", "left": {"ct": {"key": "state"}}, "right": ["established", "related"]}}
ACCEPT = {"accept": None}


def chain(kind: str, hook: str, policy: str = "accept", table: str = "fw") -> dict[str, Any]:
    fields = {"family": "inet", "table": table, "name": hook, "type": kind, "hook": hook, "prio": 0, "policy": policy}
    return {"chain": fields}


def rule(name: str, *statements: dict[str, Any], table: str = "fw") -> dict[str, Any]:
    return {"rule": {"family": "inet", "table": table, "chain": name, "expr": list(statements)}}


def found(*ruleset: dict[str, Any], keep_sources: bool = False, **changes: Any) -> tuple[HostFinding, ...]:
    facts: dict[str, Any] = {
        "ruleset": ruleset, "forwarding": {4: True, 6: True}, "networks": {4}, "devices": ("ipsec0",),
        "strict_rp_filter": (), "has_xfrm": True,
    }  # fmt: skip
    return find(HostReadings(**(facts | changes)), keep_sources=keep_sources)


NAT = chain("nat", "postrouting")


@pytest.mark.parametrize(
    "statements",
    [
        (TO_WAN, MASQUERADE),
        (MASQUERADE,),
        (TO_WAN, {"snat": {"addr": "192.0.2.1"}}),
        (TO_WAN, {"xt": {"type": "target", "name": "MASQUERADE"}}),
    ],
)
def test_masquerading_in_front_of_a_tunnel_is_named_with_its_chain(statements: tuple[dict[str, Any], ...]) -> None:
    (finding,) = found(NAT, rule("postrouting", *statements))
    assert (finding.code, finding.fixed) == (FindingCode.MASQUERADE, False)
    assert "inet fw postrouting" in finding.detail
    assert "rt ipsec missing" in finding.detail
    (fixed,) = found(NAT, rule("postrouting", *statements), keep_sources=True)
    assert fixed.fixed


def test_a_rule_that_excepts_tunnels_is_fine() -> None:
    assert found(NAT, rule("postrouting", TO_WAN, NO_IPSEC, MASQUERADE)) == ()
    iptables = {"xt": {"type": "match", "name": "policy"}}
    assert found(NAT, rule("postrouting", iptables, {"xt": {"type": "target", "name": "MASQUERADE"}})) == ()


def test_masquerading_of_the_wan_does_not_touch_a_tunnel_device() -> None:
    assert found(NAT, rule("postrouting", TO_WAN, MASQUERADE), has_xfrm=False) == ()
    assert len(found(NAT, rule("postrouting", MASQUERADE), has_xfrm=False)) == 1


def test_a_rule_behind_a_jump_is_found_and_a_loop_ends() -> None:
    jump, back = {"jump": {"target": "more"}}, {"jump": {"target": "postrouting"}}
    assert len(found(NAT, rule("postrouting", jump), rule("more", TO_WAN, MASQUERADE), rule("more", back))) == 1


def test_our_own_table_is_no_finding() -> None:
    own = chain("nat", "postrouting", table="warren")
    assert found(own, rule("postrouting", {"snat": {"addr": "192.0.2.1"}}, table="warren")) == ()


def test_forwarding_that_is_off_is_named_by_its_switch() -> None:
    (finding,) = found(forwarding={4: False, 6: False})
    assert finding.code is FindingCode.FORWARDING_OFF
    assert "net.ipv4.ip_forward" in finding.detail
    assert found(forwarding={4: False}, networks=()) == ()


def test_a_forward_chain_that_drops_everything_new_is_named() -> None:
    drop = chain("filter", "forward", "drop")
    for ruleset in ([drop], [drop, rule("forward", ESTABLISHED, ACCEPT)]):
        (finding,) = found(*ruleset)
        assert finding.code is FindingCode.FORWARD_DROP
        assert "inet fw forward" in finding.detail
    assert found(drop, rule("forward", TO_WAN, ACCEPT)) == ()
    assert found(drop, networks=()) == ()
    assert found(chain("filter", "forward"), networks={4}) == ()


def test_strict_reverse_path_filtering_of_a_tunnel_device_is_named() -> None:
    (finding,) = found(strict_rp_filter=("ipsec0",))
    assert finding.code is FindingCode.RP_FILTER
    assert "set it to 2" in finding.detail
