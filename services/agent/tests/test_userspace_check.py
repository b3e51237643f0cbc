"""What the userspace driver lacks: every field of a tunnel is carried or refused, and an operator learns of it before it is applied."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warren_agent.drivers.userspace.checks import FEATURES, capabilities, check
from warren_agent.drivers.userspace.specification import build_specification
from warren_agent.errors import ConfigRefusedError
from warren_contracts.ipsec import Childless, ChildSettings, DpdAction, Fragmentation, IkeSettings, Mode
from warren_contracts.peers import DriverCapabilities, PeerRecord
from warren_contracts.tunnel import Tunnel
from warren_intent import check as intent
from warren_intent.expand import expand
from warren_intent.findings import Code, Finding, errors
from warren_testkit.examples import examples
from warren_testkit.intent import directory, ipsec_tunnel, published, record, resolved

# A second value of each field.
IKE: dict[str, Any] = {
    "proposals": ["aes256gcm16-prfsha384-ecp384"], "vips": ["0.0.0.0"], "pools": ["10.9.0.0/24"], "ppk_id": "ppk-1",  # noqa: S104 - any
    "version": 1, "rekey_time": 7_200, "reauth_time": 7_200, "over_time": 600, "rand_time": 300, "dpd_delay": 10,
    "dpd_timeout": 90, "mobike": True, "encap": True, "fragmentation": "no", "childless": "prefer", "keyingtries": 3, "dscp": 46,
    "send_cert": False, "send_certreq": False, "ppk_required": True,
}  # fmt: skip
CHILD: dict[str, Any] = {
    "name": "web", "local_ts": ["10.77.0.0/24"], "remote_ts": ["10.78.0.1-10.78.0.9"], "proposals": ["aes256gcm16-x25519-esn"],
    "mode": "transport", "rekey_time": 1_800, "life_time": 9_000, "rand_time": 60, "rekey_bytes": 1_000, "life_bytes": 9_000,
    "rand_bytes": 0, "rekey_packets": 1_000, "life_packets": 9_000, "rand_packets": 0, "dpd_action": "restart",
    "replay_window": 2_048, "tfc_padding": 100, "ipcomp": True, "inactivity": 60, "copy_df": False, "copy_ecn": False,
    "copy_dscp": "yes", "hw_offload": "yes",
}  # fmt: skip
WITHOUT_EFFECT = {
    "dpd_timeout": "of IKEv1",
    "encap": "ESP is always encapsulated",
    "keyingtries": "the agent repeats attempts",
    "send_cert": "there are no certificates",
    "send_certreq": "there are no certificates",
    "dpd_action": "the agent starts a tunnel whose peer is back",
}
CASES = [("ike", name, value) for name, value in IKE.items()] + [
    ("child", name, value) for name, value in CHILD.items()
]


def test_every_field_is_tried() -> None:
    assert (set(IKE), set(CHILD)) == (set(IkeSettings.model_fields), set(ChildSettings.model_fields))


def refusal(config: Tunnel) -> str | None:
    try:
        check(config)
    except ConfigRefusedError as error:
        return str(error)
    return None


@pytest.mark.parametrize(("level", "name", "value"), CASES, ids=str)
def test_no_field_is_ignored(level: str, name: str, value: Any) -> None:
    before, after = resolved(ipsec_tunnel()), resolved(ipsec_tunnel(**{level: {name: value}}))
    check(before)
    if (reason := refusal(after)) is not None:
        assert name in reason
        return
    assert (build_specification(before) == build_specification(after)) == (name in WITHOUT_EFFECT)


OPTIONS = st.fixed_dictionaries(
    {},
    optional={
        "ike": st.fixed_dictionaries(
            {}, optional={
                "childless": st.sampled_from([*Childless]), "fragmentation": st.sampled_from([*Fragmentation]),
                "dscp": st.sampled_from([0, 46]), "rand_time": st.sampled_from([None, 0, 60]), "mobike": st.booleans(),
                "encap": st.booleans(), "reauth_time": st.sampled_from([0, 7_200]), "keyingtries": st.sampled_from([0, 1]),
            },
        ),
        "child": st.fixed_dictionaries(
            {}, optional={
                "mode": st.sampled_from([*Mode, Mode.TUNNEL]), "dpd_action": st.sampled_from([DpdAction.CLEAR, DpdAction.RESTART]),
                "hw_offload": st.sampled_from(["no", "auto", "yes", "crypto", "packet"]),
                "copy_dscp": st.sampled_from(["out", "in", "yes", "no"]), "copy_df": st.booleans(), "copy_ecn": st.booleans(),
                "replay_window": st.sampled_from([32, 1_024, 4_096]), "tfc_padding": st.sampled_from([0, 100]),
                "ipcomp": st.booleans(), "inactivity": st.sampled_from([0, 60]), "rand_bytes": st.sampled_from([None, 0]),
            },
        ),
    },
)  # fmt: skip
IKE_PROPOSALS = (
    "aes256gcm16-prfsha384-x25519",
    "aes128-sha256-prfsha256-modp2048",
    "camellia128-sha256-prfsha256-x448",
)
ESP_PROPOSALS = ("aes256gcm16-x25519", "chacha20poly1305-ecp384", "aes256gcm16-x25519-esn", "aes128ctr-sha256")
CRYPTO = st.fixed_dictionaries(
    {}, optional={
        "ike": st.lists(st.sampled_from(IKE_PROPOSALS), min_size=1, max_size=2, unique=True),
        "esp": st.lists(st.sampled_from(ESP_PROPOSALS), min_size=1, max_size=2, unique=True),
    },
)  # fmt: skip
ENDS = st.fixed_dictionaries(
    {}, optional={
        "vips": st.sampled_from([["0.0.0.0"], ["0.0.0.0", "::"], ["10.5.0.1", "10.5.0.2"]]),  # noqa: S104 - any
        "xfrm": st.sampled_from([{"if_id_in": 7, "if_id_out": 7}, {"mark_in": 5}, {"set_mark_out": 5}]),
    },
)  # fmt: skip
TS = st.sampled_from(["dynamic", "dynamic[tcp/80]", "10.2.0.0/24", "10.2.0.1-10.2.0.9[udp/53]"])


def peer(name: str, number: int, driver: DriverCapabilities) -> PeerRecord:
    return record(name, number, name, driver=driver)


def left_out(found: tuple[Finding, ...]) -> list[str]:
    """The lines that say that a policy is refused, or tunnels of a peer are left out."""
    return [it.message for it in found if it in errors(found) or it.code is Code.UNSUPPORTED]


def configurations(
    policy: Any, drivers: tuple[DriverCapabilities, DriverCapabilities]
) -> tuple[list[Tunnel], list[str]]:
    """What a policy makes of two peers, for both, and what is said of it."""
    fleet = directory(
        *(peer(name, n, driver) for n, (name, driver) in enumerate(zip(("hub", "spoke"), drivers, strict=True), 1))
    )
    found = intent.check([policy], fleet, ("hub", "spoke"))
    return [config for name in fleet for config in expand([policy], fleet, name)], left_out(found)


@examples(300)
@given(OPTIONS, CRYPTO)
def test_what_passes_the_check_passes_the_driver(options: dict[str, Any], crypto: dict[str, Any]) -> None:
    policy = published("p", hubs=["tag=hub"], spokes=["tag=spoke"], options=options, crypto=crypto)
    made, lines = configurations(policy, (capabilities("1"), capabilities("1")))
    if lines:
        return
    for config in made:
        check(config)


@examples(300)
@given(ENDS, st.lists(TS, max_size=2, unique=True), st.sampled_from(["any", "tcp"]))
def test_what_passes_the_check_of_an_explicit_tunnel_passes_the_driver(
    end: dict[str, Any], ts: list[str], protocol: str
) -> None:
    ends = [{"peer": "hub", "subnets": ["10.1.0.0/24"]}, {"peer": "spoke", "subnets": ["10.2.0.0/24"], **end}]
    if "vips" in end:
        ends[0]["pools"] = ["10.5.0.0/24", "fd00::/64"]
        ends[1].pop("subnets")
    children = [{"name": "net", "ts": [[], ts], "protocol": protocol}]
    policy = published("p", tunnels=[{"name": "t", "ends": ends, "children": children}], topology=None)
    made, lines = configurations(policy, (capabilities("1"), capabilities("1")))
    if lines:
        return
    for config in made:
        check(config)


def test_an_xfrm_interface_is_refused_in_one_line() -> None:
    assert not {"if_id", "mark"} & {*FEATURES}
    policy = published(
        "p", tunnels=[{"name": "t", "ends": [
            {"peer": "hub", "subnets": ["10.1.0.0/24"]},
            {"peer": "spoke", "subnets": ["10.2.0.0/24"], "xfrm": {"if_id_in": 7, "if_id_out": 7}},
        ]}], topology=None,
    )  # fmt: skip
    _, lines = configurations(policy, (capabilities("1"), capabilities("1")))
    assert lines == ["spoke: if_id is not supported: remove it"]
