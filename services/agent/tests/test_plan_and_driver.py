"""What `plan` shows an operator of a change is what the driver makes of it, for every field of a tunnel."""

import base64
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nacl.signing import SigningKey

from warren_agent.drivers.strongswan.capabilities import CharonAbilities
from warren_agent.drivers.strongswan.checks import check
from warren_agent.drivers.strongswan.connections import HandleName, build_connection, build_pools, fingerprint
from warren_agent.errors import ConfigRefusedError
from warren_contracts.ipsec import ChildSettings, IkeSettings, IpsecLink, Xfrm
from warren_contracts.policy import TunnelEnd
from warren_contracts.tunnel import Tunnel
from warren_intent.plan import Effect, child_level, compare, ike_level
from warren_testkit.examples import examples
from warren_testkit.intent import resolved

CHARON = CharonAbilities("6.1.0", frozenset({"kernel-netlink"}))
KEYS = [base64.b64encode(bytes(SigningKey(bytes([n]) * 32).verify_key)).decode() for n in (1, 2, 3)]


def raw_key(identity: str, key: str) -> dict[str, str]:
    return {"kind": "raw-key", "identity": identity, "public_key": key}


# Two values of every field at least. Each table is of one level of a tunnel.
LABELS: dict[str, tuple[Any, ...]] = {
    "name": ("hub+spoke",),  # another name is another tunnel
    "policy": ("p", "q"),
    "priority": (1, 2),
    "peer": ("hub",),  # another peer is another tunnel
    "initiator": (True, False),
    "auto_start": (True, False),
    "protect": ("always", "when-applied", "off"),  # the guard's concern
    "protect_after_delete": (0, 60, "keep"),
    "bypass": ("allow", "forbid"),  # the agent's concern
    "standby_of": ((), ("hub-1+spoke",)),
}
ENDPOINTS: dict[str, tuple[Any, ...]] = {
    "local_endpoints": ([], ["192.0.2.2"], ["192.0.2.2:4501"]),
    "remote_endpoints": (["192.0.2.1"], ["192.0.2.1", "198.51.100.1"], ["192.0.2.1:4501"]),
}
AUTH: dict[str, tuple[Any, ...]] = {
    "local_auth": (raw_key("spoke", KEYS[0]), raw_key("spoke", KEYS[2])),
    "remote_auth": (raw_key("hub", KEYS[1]), raw_key("hub.example", KEYS[1])),
}
IKE: dict[str, tuple[Any, ...]] = {
    "proposals": (
        ["aes256gcm16-prfsha384-x25519"],
        ["aes256gcm16-prfsha384-ecp384"],
        ["aes256gcm16-prfsha384-x25519-ecp384"],
    ),
    "vips": ([], ["0.0.0.0"], ["::"]),  # noqa: S104 - any virtual address
    "pools": ([], ["10.9.0.0/24"], ["10.9.0.0/25"]),
    "ppk_id": (None,),  # refused
    "version": (2,),  # 1 is refused
    "rekey_time": (14_400, 7_200),
    "reauth_time": (0, 7_200),
    "over_time": (None, 600),
    "rand_time": (None, 0, 300),
    "dpd_delay": (30, 10),
    "dpd_timeout": (0, 90),
    "mobike": (False, True),
    "encap": (False, True),
    "fragmentation": ("yes", "accept", "no"),
    "childless": ("allow", "prefer", "force", "never"),
    "keyingtries": (1, 3),
    "dscp": (0, 46),
    "send_cert": (True, False),
    "send_certreq": (True, False),
    "ppk_required": (False,),  # refused
}
CHILD: dict[str, tuple[Any, ...]] = {
    "name": ("net", "web"),
    "local_ts": (["192.0.2.2/32"], ["10.2.0.0/24"], ["10.2.0.0/24", "10.3.0.0/24"], ["192.0.2.2/32[tcp/443]"]),
    "remote_ts": (["192.0.2.1/32"], ["10.1.0.0/24"], ["10.1.0.1-10.1.0.9"]),
    "proposals": (["aes256gcm16-x25519"], ["aes256gcm16-x25519-esn"], ["aes256gcm16-x25519-noesn"]),
    "mode": ("tunnel", "transport", "beet"),
    "rekey_time": (3_600, 1_800),
    "life_time": (None, 4_000),
    "rand_time": (None, 0, 60),
    "rekey_bytes": (1_000, 2_000),
    "life_bytes": (0, 9_000),
    "rand_bytes": (None, 0, 100),
    "rekey_packets": (1_000, 2_000),
    "life_packets": (0, 9_000),
    "rand_packets": (None, 0, 100),
    "dpd_action": ("clear", "restart"),
    "replay_window": (64, 128),
    "tfc_padding": (0, 100),
    "ipcomp": (False, True),
    "inactivity": (0, 60),
    "copy_df": (True, False),
    "copy_ecn": (True, False),
    "copy_dscp": ("out", "in", "yes", "no"),
    "hw_offload": ("no", "auto", "yes", "crypto", "packet"),
}
XFRM: dict[str, tuple[Any, ...]] = {
    "if_id_in": (0, 7),
    "if_id_out": (0, 7),
    **{f"{kind}_{way}": (0x5, 0x4) for kind in ("mark", "set_mark") for way in ("in", "out")},
    **{f"{kind}_{way}_mask": (0xFFFFFFFF, 0xFF) for kind in ("mark", "set_mark") for way in ("in", "out")},
}
LEVELS = {"tunnel": LABELS | ENDPOINTS, "auth": AUTH, "ike": IKE, "child": CHILD, "xfrm": XFRM}
Edit = dict[str, dict[str, Any]]  # changed fields by level


def config(edit: Edit) -> Tunnel:
    made = {
        level: {name: values[0] for name, values in table.items()} | edit.get(level, {})
        for level, table in LEVELS.items()
    }
    link = {"kind": "ipsec", **made["auth"], "ike": made["ike"], "children": [made["child"]], "xfrm": made["xfrm"]}
    return resolved(Tunnel.model_validate({**made["tunnel"], "link": link}))


def edits() -> st.SearchStrategy[Edit]:
    """Some fields of each level with one of their values."""
    return st.fixed_dictionaries(
        {
            level: st.fixed_dictionaries({}, optional={name: st.sampled_from(values) for name, values in table.items()})
            for level, table in LEVELS.items()
        }
    )


def agree(before: Tunnel, after: Tunnel, charon: CharonAbilities = CHARON) -> None:
    old, new = fingerprint(before, charon), fingerprint(after, charon)
    assert (old.ike == new.ike) == (ike_level(before) == ike_level(after))
    assert (old.children == new.children) == (child_level(before) == child_level(after))
    expected = Effect.IKE if old.ike != new.ike else Effect.UNTOUCHED if old.children == new.children else Effect.CHILD
    assert compare(before, after) is expected


def accepted(made: Tunnel) -> bool:
    try:
        check(made, CHARON)
    except ConfigRefusedError:
        return False
    return True


def test_every_field_is_tried() -> None:
    assert set(LABELS) | set(ENDPOINTS) | {"link"} == set(Tunnel.model_fields)
    assert set(AUTH) | {"kind", "ike", "children", "xfrm"} == set(IpsecLink.model_fields)
    assert (set(IKE), set(CHILD)) == (set(IkeSettings.model_fields), set(ChildSettings.model_fields))
    assert set(XFRM) == set(Xfrm.model_fields)


CASES = [
    (level, name, value)
    for level, table in LEVELS.items() for name, values in table.items() for value in values[1:]
]  # fmt: skip


@pytest.mark.parametrize(("level", "name", "value"), CASES, ids=str)
def test_plan_and_driver_agree_on_each_field_by_itself(level: str, name: str, value: Any) -> None:
    before, after = config({}), config({level: {name: value}})
    assert accepted(before)
    agree(before, after)
    has_effect = (name not in LABELS and name != "dpd_timeout") or (level, name) == ("child", "name")
    assert (fingerprint(before, CHARON) != fingerprint(after, CHARON)) == has_effect


@examples(300)
@given(edits(), edits())
def test_plan_and_driver_agree_on_any_change(edit: Edit, other: Edit) -> None:
    agree(config(edit), config({level: edit[level] | other[level] for level in LEVELS}))


def test_a_pool_of_other_addresses_is_another_pool() -> None:
    one, other = (config({"ike": {"pools": [network]}}) for network in ("10.9.0.0/24", "10.9.0.0/25"))
    assert build_pools(one).keys().isdisjoint(build_pools(other))
    assert len(build_pools(config({"ike": {"pools": ["10.9.0.0/24", "fd00::/64"]}}))) == 2


def test_marks_and_randomness_are_written_as_charon_reads_them() -> None:
    made = config(
        {
            "xfrm": {"mark_in": 0x10, "mark_in_mask": 0xFF, "set_mark_out": 3, "mark_out": 0, "set_mark_in": 0},
            "ike": {"rand_time": 90},
            "child": {"rand_time": 60, "rand_bytes": 7},
        }
    )
    connection, handle = HandleName(made.name, 1), HandleName(made.name, 1, "net")
    section: Any = build_connection(made, connection, [handle], CHARON)[str(connection)]
    child = section["children"][str(handle)]
    assert (child["mark_in"], child["set_mark_out"]) == ("16/0x000000ff", "3")
    assert not child.keys() & {"mark_out", "set_mark_in"}
    assert (section["rand_time"], child["rand_time"], child["rand_bytes"]) == ("90s", "60s", "7")


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"mark_in": 0x100, "mark_in_mask": 0xFF}, "outside mark_in_mask"),
        ({"set_mark_out_mask": 0xFF}, "set_mark_out_mask"),
        ({"mark_out": -1}, "mark_out"),
        ({"mark": 1}, "mark"),
    ],
)
def test_marks_that_would_match_nothing_are_refused(wrong: dict[str, int], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Xfrm.model_validate(wrong)


def test_xfrm_belongs_to_an_end_of_ours() -> None:
    with pytest.raises(ValueError, match="set it at the other end"):
        TunnelEnd.model_validate(
            {"identity": "x", "public_key": KEYS[0], "subnets": ["10.0.0.0/24"], "xfrm": {"mark_in": 1}}
        )
