"""What `plan` tells an operator of a change is what the driver makes of it, for every field of a TunnelConfig."""

import base64
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nacl.signing import SigningKey

from warren_agent.drivers.strongswan.capabilities import CharonAbilities
from warren_agent.drivers.strongswan.connections import HandleName, build_connection, build_pools, check, fingerprint
from warren_agent.errors import ConfigRefusedError
from warren_contracts.policy import TunnelEnd
from warren_contracts.tunnel import TunnelConfig, TunnelOptions, Xfrm
from warren_intent.plan import LABELS, Effect, child_level, compare, ike_level

CHARON = CharonAbilities("6.1.0", frozenset({"kernel-netlink"}))
KEYS = [base64.b64encode(bytes(SigningKey(bytes([n]) * 32).verify_key)).decode() for n in (1, 2, 3)]
HOSTS = {"local_ts": ["192.0.2.2/32"], "remote_ts": ["192.0.2.1/32"]}

# Two values of every field at least; `options` are below.
FIELDS: dict[str, tuple[Any, ...]] = {
    "name": ("hub+spoke",),  # another name is another tunnel
    "policy": ("p", "q"),
    "priority": (1, 2),
    "peer": ("hub",),  # another peer is another tunnel
    "initiator": (True, False),
    "auto_start": (True, False),
    "local_addrs": ([], ["192.0.2.2"]),
    "remote_addrs": (["192.0.2.1"], ["192.0.2.1", "198.51.100.1"]),
    "local_auth": ({"identity": "spoke", "public_key": KEYS[0]}, {"identity": "spoke", "public_key": KEYS[2]}),
    "remote_auth": ({"identity": "hub", "public_key": KEYS[1]}, {"identity": "hub.example", "public_key": KEYS[1]}),
    "local_ts": (["192.0.2.2/32"], ["10.2.0.0/24"], ["10.2.0.0/24", "10.3.0.0/24"]),
    "remote_ts": (["192.0.2.1/32"], ["10.1.0.0/24"]),
    "ike_proposals": (["aes256gcm16-prfsha384-x25519"], ["aes256gcm16-prfsha384-ecp384"]),
    "esp_proposals": (["aes256gcm16-x25519"], ["aes256gcm16-x25519-esn"], ["aes256gcm16-x25519-noesn"]),
    "vips": ([], ["0.0.0.0"], ["::"]),  # noqa: S104 - any virtual address
    "pools": ([], ["10.9.0.0/24"], ["10.9.0.0/25"]),
    "ppk_id": (None,),  # refused
    "if_id_in": (0, 7),
    "if_id_out": (0, 7),
    **{f"{kind}_{way}": (0x5, 0x4) for kind in ("mark", "set_mark") for way in ("in", "out")},
    **{f"{kind}_{way}_mask": (0xFFFFFFFF, 0xFF) for kind in ("mark", "set_mark") for way in ("in", "out")},
}
OPTIONS: dict[str, tuple[Any, ...]] = {
    "ike_version": (2,),  # 1 is refused
    "mode": ("tunnel", "transport", "beet"),
    "ike_rekey_time": (14_400, 7_200),
    "ike_reauth_time": (0, 7_200),
    "ike_over_time": (1_440, 600),
    "ike_rand_time": (None, 0, 300),
    "child_rekey_time": (3_600, 1_800),
    "child_life_time": (3_960, 4_000),
    "child_rand_time": (None, 0, 60),
    "child_rekey_bytes": (1_000, 2_000),
    "child_life_bytes": (0, 9_000),
    "child_rand_bytes": (None, 0, 100),
    "child_rekey_packets": (1_000, 2_000),
    "child_life_packets": (0, 9_000),
    "child_rand_packets": (None, 0, 100),
    "dpd_delay": (30, 10),
    "dpd_timeout": (0, 90),
    "dpd_action": ("clear", "restart"),
    "mobike": (False, True),
    "encap": (False, True),
    "fragmentation": ("yes", "accept", "no"),
    "childless": ("allow", "prefer", "force", "never"),
    "keyingtries": (1, 3),
    "local_port": (500, 4_500),
    "remote_port": (500, 4_500),
    "dscp": (0, 46),
    "send_cert": (True, False),
    "send_certreq": (True, False),
    "revocation": ("relaxed",),  # the others are refused
    "ppk_required": (False,),  # refused
    "replay_window": (64, 128),
    "tfc_padding": (0, 100),
    "ipcomp": (False, True),
    "inactivity": (0, 60),
    "copy_df": (True, False),
    "copy_ecn": (True, False),
    "copy_dscp": ("out", "in", "yes", "no"),
    "hw_offload": ("no", "auto", "yes", "crypto", "packet"),
}


def config(fields: dict[str, Any], options: dict[str, Any]) -> TunnelConfig:
    standard = {name: values[0] for name, values in FIELDS.items()}
    chosen = {name: values[0] for name, values in OPTIONS.items()} | options
    return TunnelConfig.model_validate({**standard, **fields, "options": chosen})


def edits(table: dict[str, tuple[Any, ...]]) -> st.SearchStrategy[dict[str, Any]]:
    """Some fields with one of their values."""
    return st.fixed_dictionaries({}, optional={name: st.sampled_from(values) for name, values in table.items()})


def agree(before: TunnelConfig, after: TunnelConfig, charon: CharonAbilities = CHARON) -> None:
    old, new = fingerprint(before, charon), fingerprint(after, charon)
    assert (old.ike == new.ike) == (ike_level(before) == ike_level(after))
    assert (old.child == new.child) == (child_level(before) == child_level(after))
    expected = Effect.IKE if old.ike != new.ike else Effect.UNTOUCHED if old.child == new.child else Effect.CHILD
    assert compare(before, after) is expected


def accepted(made: TunnelConfig) -> bool:
    try:
        check(made, CHARON)
    except ConfigRefusedError:
        return False
    return True


def test_every_field_and_every_option_is_tried() -> None:
    assert set(FIELDS) | {"options"} == set(TunnelConfig.model_fields)
    assert set(OPTIONS) == set(TunnelOptions.model_fields)


CASES = [
    *(({name: value}, {}) for name, values in FIELDS.items() for value in values[1:]),
    *(({}, {name: value}) for name, values in OPTIONS.items() for value in values[1:]),
]


@pytest.mark.parametrize(("fields", "options"), CASES, ids=lambda it: "+".join(it) or "-")
def test_plan_and_driver_agree_on_each_field_by_itself(fields: dict[str, Any], options: dict[str, Any]) -> None:
    before, after = config({}, {}), config(fields, options)
    assert accepted(before) or fields.keys() & {"local_addrs"}
    agree(before, after)
    unlabelled = not (fields.keys() & set(LABELS)) and "dpd_timeout" not in options
    assert (fingerprint(before, CHARON) != fingerprint(after, CHARON)) == unlabelled


@settings(max_examples=300, deadline=None)
@given(edits(FIELDS), edits(OPTIONS), edits(FIELDS), edits(OPTIONS))
def test_plan_and_driver_agree_on_any_change(
    fields: dict[str, Any], options: dict[str, Any], other_fields: dict[str, Any], other_options: dict[str, Any]
) -> None:
    agree(config(fields, options), config(fields | other_fields, options | other_options))


def test_a_pool_of_other_addresses_is_another_pool() -> None:
    one, other = config({"pools": ["10.9.0.0/24"]}, {}), config({"pools": ["10.9.0.0/25"]}, {})
    assert build_pools(one).keys().isdisjoint(build_pools(other))
    assert len(build_pools(config({"pools": ["10.9.0.0/24", "fd00::/64"]}, {}))) == 2


def test_marks_randomness_and_revocation_are_written_as_charon_reads_them() -> None:
    made = config(
        {"mark_in": 0x10, "mark_in_mask": 0xFF, "set_mark_out": 3, "mark_out": 0, "set_mark_in": 0},
        {"ike_rand_time": 90, "child_rand_time": 60, "child_rand_bytes": 7, "revocation": "strict"},
    )
    handle = HandleName(made.name, 1)
    section: Any = build_connection(made, handle, handle, CHARON)[str(handle)]
    child = section["children"][str(handle)]
    assert (child["mark_in"], child["set_mark_out"]) == ("16/0x000000ff", "3")
    assert not child.keys() & {"mark_out", "set_mark_in"}
    assert (section["rand_time"], child["rand_time"], child["rand_bytes"]) == ("90s", "60s", "7")
    assert section["remote"]["revocation"] == "strict"


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
