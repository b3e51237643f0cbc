"""Rules of routing past the tunnels: which, and how they get into the kernel."""

import pytest

from warren_contracts.guard import Bypass, LocalNetwork
from warren_guard.domain.rules import changes, held_rules, wanted_rules
from warren_guard.rules import Rules
from warren_testkit.guard import FakeKernel

BUS = Bypass(address="198.51.100.10", port=4222, routed=True)
NAMES = Bypass(address="fd00::53", port=53, protocol=17, routed=True)
LAN = LocalNetwork(network="10.1.0.0/24", behind=True)
WAN = LocalNetwork(network="192.0.2.0/24")
GATEWAY = LocalNetwork(network="203.0.113.1/32")
BUS_RULE = "priority 190 to 198.51.100.10 iif lo ipproto tcp dport 4222 lookup main protocol 87"
LAN_RULE = "priority 190 to 10.1.0.0/24 lookup main protocol 87"
LISTED = [
    {"priority": 0, "src": "all", "table": "local", "protocol": "kernel"},
    {"priority": 190, "src": "all", "dst": "10.1.0.0", "dstlen": 24, "table": "main", "protocol": "87"},
    {"priority": 190, "src": "all", "dst": "198.51.100.10", "iif": "lo", "ipproto": "tcp", "dport": 4222, "table": "main",
     "protocol": "87"},
    {"priority": 190, "src": "all", "dst": "10.9.0.0", "dstlen": 16, "table": "main", "protocol": "boot"},
    {"priority": 32766, "src": "all", "table": "main", "protocol": "kernel"},
]  # fmt: skip


def test_services_are_for_the_host_itself_and_networks_behind_it_for_what_it_forwards_too() -> None:
    assert wanted_rules([BUS, NAMES], [LAN, WAN, GATEWAY]) == {
        4: {
            BUS_RULE, LAN_RULE, "priority 190 to 192.0.2.0/24 iif lo lookup main protocol 87",
            "priority 190 to 203.0.113.1 iif lo lookup main protocol 87",
        },
        6: {"priority 190 to fd00::53 iif lo ipproto udp dport 53 lookup main protocol 87"},
    }  # fmt: skip


def test_service_that_no_tunnel_takes_has_no_rule() -> None:
    assert wanted_rules([BUS.model_copy(update={"routed": False})], []) == {4: set(), 6: set()}


def test_own_rules_are_those_of_the_priority_and_the_protocol() -> None:
    assert held_rules(LISTED) == {BUS_RULE, LAN_RULE}


def test_what_is_missing_is_made_before_what_is_obsolete_is_removed() -> None:
    assert changes({BUS_RULE}, {LAN_RULE}) == [f"rule add {BUS_RULE}", f"rule del {LAN_RULE}"]
    assert changes({BUS_RULE}, {BUS_RULE}) == []


class Kernel(FakeKernel):
    """A kernel that lists LISTED."""

    async def rules(self, family: int) -> list[dict[str, object]]:
        return LISTED if family == 4 else []


async def test_rules_of_an_earlier_run_are_taken_over_and_removed_when_nothing_needs_them() -> None:
    kernel = Kernel()
    rules = Rules(kernel)
    await rules.apply([BUS], [LAN])
    assert kernel.lines == []
    await rules.apply([], [])
    assert kernel.lines == [f"-4 rule del {LAN_RULE}", f"-4 rule del {BUS_RULE}"]
    assert rules.error == ""


async def test_rule_that_another_program_removes_returns() -> None:
    kernel = FakeKernel()  # it lists none
    rules = Rules(kernel)
    await rules.repair()
    assert kernel.lines == []
    await rules.apply([BUS], [])
    await rules.repair()
    assert kernel.lines == [f"-4 rule add {BUS_RULE}"] * 2


@pytest.mark.parametrize("refusal", ["ip: RTNETLINK answers: Operation not permitted"])
async def test_refused_rule_is_the_error(refusal: str) -> None:
    kernel = FakeKernel()
    kernel.refusal = refusal
    rules = Rules(kernel)
    await rules.apply([BUS], [])
    assert rules.error == refusal
    await rules.apply([], [])
    assert rules.error == ""
