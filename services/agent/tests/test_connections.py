"""A tunnel as a load-conn message: fields, levels, names, and what a charon cannot do."""

import base64
from collections.abc import Mapping
from ipaddress import IPv4Address
from typing import Any

import pytest
from nacl.signing import SigningKey

from warren_agent.drivers.addresses import host_owns, with_own_addresses
from warren_agent.drivers.strongswan.capabilities import CharonAbilities, algorithm_name, parse_version
from warren_agent.drivers.strongswan.checks import check
from warren_agent.drivers.strongswan.connections import (
    HandleName,
    build_connection,
    build_pools,
    build_private_key,
    build_public_key,
    fingerprint,
    parse_handle,
)
from warren_agent.drivers.strongswan.ledger import handles, next_entry
from warren_agent.drivers.strongswan.vici_codec import build_message, parse_message
from warren_agent.errors import ConfigRefusedError
from warren_contracts.proposals import AEAD_CIPHERS, CIPHERS, GROUPS, INTEGRITIES, PRFS
from warren_contracts.status import MAX_PLUGINS, DriverStatus
from warren_contracts.tunnel import Tunnel
from warren_intent.plan import child_level, ike_level
from warren_testkit.intent import ipsec_tunnel

DEBIAN_12 = CharonAbilities("5.9.8", frozenset({"kernel-netlink"}))
DEBIAN_13 = CharonAbilities("6.0.1", frozenset({"kernel-netlink"}))
LIBIPSEC = CharonAbilities("5.9.8", frozenset({"kernel-libipsec"}))
AUTH = (("local_auth", "spoke"), ("remote_auth", "hub"))
KEY = base64.b64encode(bytes(SigningKey(b"k" * 32).verify_key)).decode()


def config(options: dict[str, Any] | None = None, **changes: Any) -> Tunnel:
    """A tunnel with `options` as a policy states them; `ike`, `child`, `children` and `link` change those levels."""
    given = options or {}
    levels: dict[str, Any] = {level: {**given.get(level, {}), **changes.pop(level, {})} for level in ("ike", "child")}
    keys = {end: {"kind": "raw-key", "identity": name, "public_key": KEY} for end, name in AUTH}
    networks = {"local_ts": ["10.2.0.0/24"], "remote_ts": ["10.1.0.0/24"]}
    levels["child"] = networks | levels["child"]
    changes["link"] = keys | changes.pop("link", {})
    return ipsec_tunnel(**{"remote_endpoints": ["192.0.2.1"]} | levels | changes)


def message(made: Tunnel, abilities: CharonAbilities = DEBIAN_12) -> dict[str, Any]:
    children = [HandleName(made.name, 5, child.name) for child in made.link.children]
    built = build_connection(made, HandleName(made.name, 3), children, abilities)
    return parse_message(build_message(built))


def test_message_says_what_the_configuration_says() -> None:
    section = message(config())["hub+spoke~3"]
    assert section["remote_addrs"] == [b"192.0.2.1"]
    assert "local_addrs" not in section
    assert section["proposals"] == [b"aes256gcm16-prfsha384-x25519"]
    assert section["unique"] == b"no"
    assert (section["local"]["id"], section["remote"]["id"]) == (b"fqdn:spoke", b"fqdn:hub")  # no form is left to guess
    assert section["local"]["pubkeys"] == [build_public_key(base64.b64decode(KEY))]
    child = section["children"]["hub+spoke.net~5"]
    assert (child["start_action"], child["close_action"], child["mode"]) == (b"none", b"none", b"tunnel")
    assert child["remote_ts"] == [b"10.1.0.0/24"]
    assert (child["rekey_time"], child["life_time"]) == (b"3600s", b"3965s")  # generation 5


@pytest.mark.parametrize(
    ("options", "level", "key", "value"),
    [
        ({"ike": {"dpd_delay": 7}}, "ike", "dpd_delay", b"7s"),
        ({"ike": {"mobike": True}}, "ike", "mobike", b"yes"),
        ({"ike": {"encap": True}}, "ike", "encap", b"yes"),
        ({"ike": {"fragmentation": "no"}}, "ike", "fragmentation", b"no"),
        ({"ike": {"childless": "force"}}, "ike", "childless", b"force"),
        ({"ike": {"dscp": 46}}, "ike", "dscp", b"101110"),
        ({"ike": {"rand_time": 90}}, "ike", "rand_time", b"90s"),
        ({"child": {"rand_time": 60}}, "child", "rand_time", b"60s"),
        ({"ike": {"reauth_time": 7200}}, "ike", "reauth_time", b"7200s"),
        ({"ike": {"send_cert": False}}, "ike", "send_cert", b"never"),
        ({"ike": {"keyingtries": 3}}, "ike", "keyingtries", b"3"),
        ({"child": {"rekey_bytes": 100, "life_bytes": 200}}, "child", "life_bytes", b"200"),
        ({"child": {"rekey_packets": 100}}, "child", "rekey_packets", b"100"),
        ({"child": {"replay_window": 1024}}, "child", "replay_window", b"1024"),
        ({"child": {"tfc_padding": 1400}}, "child", "tfc_padding", b"1400"),
        ({"child": {"copy_dscp": "yes"}}, "child", "copy_dscp", b"yes"),
        ({"child": {"copy_df": False}}, "child", "copy_df", b"no"),
        ({"child": {"ipcomp": True}}, "child", "ipcomp", b"yes"),
        ({"child": {"inactivity": 60}}, "child", "inactivity", b"60s"),
        ({"child": {"dpd_action": "restart"}}, "child", "dpd_action", b"restart"),
        ({"child": {"mode": "transport"}}, "child", "mode", b"transport"),
        ({"child": {"hw_offload": "crypto"}}, "child", "hw_offload", b"yes"),
    ],
)
def test_option_reaches_its_level_and_changes_that_level_alone(
    options: dict[str, Any], level: str, key: str, value: bytes
) -> None:
    section = message(config(options))["hub+spoke~3"]
    holder = section if level == "ike" else section["children"]["hub+spoke.net~5"]
    assert holder[key] == value
    before, after = fingerprint(config(), DEBIAN_12), fingerprint(config(options), DEBIAN_12)
    same_ike, same_child = before.ike == after.ike, before.children == after.children
    # What `plan` shows an operator is what the driver does.
    assert same_ike == (ike_level(config()) == ike_level(config(options)))
    assert same_child == (child_level(config()) == child_level(config(options)))
    assert (same_ike, same_child) == ((False, True) if level == "ike" else (True, False))


def test_offload_is_named_as_the_version_names_it() -> None:
    newer = CharonAbilities("5.9.14")
    child = message(config({"child": {"hw_offload": "yes"}}), newer)["hub+spoke~3"]["children"]["hub+spoke.net~5"]
    assert child["hw_offload"] == b"crypto"


def test_xfrm_ids_marks_virtual_addresses_pools_and_ppk() -> None:
    ike = {"vips": ["::"], "pools": ["10.9.0.0/24"], "ppk_id": "ppk1"}
    made = config(ike=ike, link={"xfrm": {"if_id_in": 7, "if_id_out": 8, "mark_in": 9}})
    section = message(made)["hub+spoke~3"]
    child = section["children"]["hub+spoke.net~5"]
    assert (child["if_id_in"], child["if_id_out"], child["mark_in"]) == (b"7", b"8", b"9")
    assert (section["vips"], section["ppk_id"]) == ([b"::"], b"ppk1")
    assert section["pools"] == [b"warren.10.9.0.0_24"]
    assert build_pools(made) == {"warren.10.9.0.0_24": {"addrs": "10.9.0.0/24"}}


def test_endpoints_have_their_port() -> None:
    made = config(local_endpoints=["192.0.2.2:4501"], remote_endpoints=["[2001:db8::1]:4502", "gw.example.org:4502"])
    section = message(made)["hub+spoke~3"]
    assert (section["local_addrs"], section["local_port"]) == ([b"192.0.2.2"], b"4501")
    assert (section["remote_addrs"], section["remote_port"]) == ([b"2001:db8::1", b"gw.example.org"], b"4502")
    with pytest.raises(ConfigRefusedError, match="remote_endpoints: the addresses of one end must have the same port"):
        check(made.model_copy(update={"remote_endpoints": (*made.remote_endpoints, *made.local_endpoints)}), DEBIAN_12)


def test_children_have_selectors_in_charon_s_grammar() -> None:
    children = [
        {"name": "web", "local_ts": ["10.2.0.0/24[tcp/443]"], "remote_ts": ["10.1.0.0/24[tcp]"]},
        {"name": "sip", "local_ts": ["10.2.0.1-10.2.0.9[udp/5060-5061]"], "remote_ts": ["dynamic[udp]"]},
    ]
    section = message(config(children=children))["hub+spoke~3"]["children"]
    assert (section["hub+spoke.web~5"]["local_ts"], section["hub+spoke.web~5"]["remote_ts"]) == (
        [b"10.2.0.0/24[6/443]"], [b"10.1.0.0/24[6]"],
    )  # fmt: skip
    assert (section["hub+spoke.sip~5"]["local_ts"], section["hub+spoke.sip~5"]["remote_ts"]) == (
        [b"10.2.0.1-10.2.0.9[17/5060-5061]"], [b"dynamic[17]"],
    )  # fmt: skip


def test_an_edit_of_one_child_leaves_the_others() -> None:
    one, two = {"name": "web", "local_ts": ["10.2.0.0/24[tcp]"]}, {"name": "sip", "local_ts": ["10.2.0.0/24[udp]"]}
    before = next_entry(None, fingerprint(config(children=[one, two]), DEBIAN_12), 1)
    assert before is not None
    after = next_entry(before, fingerprint(config(children=[one, two | {"replay_window": 128}]), DEBIAN_12), 2)
    assert after is not None
    assert [str(handle) for handle in handles("t", after)[1]] == ["t.web~1", "t.sip~2"]
    assert str(handles("t", after)[0]) == "t~1"
    fewer = next_entry(after, fingerprint(config(children=[one]), DEBIAN_12), 3)
    assert fewer is not None
    assert [str(handle) for handle in handles("t", fewer)[1]] == ["t.web~1"]


def test_generations_of_one_configuration_differ_in_over_time_alone() -> None:
    """charon compares configurations, not names: equal ones would share an IKE_SA."""
    one = build_connection(config(), HandleName("t", 1), [HandleName("t", 1, "net")], DEBIAN_12)["t~1"]
    two = build_connection(config(), HandleName("t", 2), [HandleName("t", 1, "net")], DEBIAN_12)["t~2"]
    assert isinstance(one, Mapping)
    assert isinstance(two, Mapping)
    assert {key for key in one if one[key] != two[key]} == {"over_time"}


def test_priority_policy_and_role_are_none_of_charons_business() -> None:
    other = config(priority=9, policy="q", initiator=False)
    assert fingerprint(config(), DEBIAN_12) == fingerprint(other, DEBIAN_12)


@pytest.mark.parametrize("name", ["a+b~1", "a~10", "x_y-z~999", "a+b.web~7"])
def test_handle_survives_the_round_trip(name: str) -> None:
    handle = parse_handle(name)
    assert handle is not None
    assert str(handle) == name


@pytest.mark.parametrize("name", ["", "a", "~1", "a~", "a~b", "a~-1", "a~1b", "a~²"])
def test_names_of_others_are_not_ours(name: str) -> None:
    assert parse_handle(name) is None


@pytest.mark.parametrize(
    ("changes", "abilities", "field"),
    [
        ({"options": {"ike": {"childless": "prefer"}}}, DEBIAN_12, "options.ike.childless"),
        ({"options": {"child": {"hw_offload": "packet"}}}, DEBIAN_12, "options.child.hw_offload"),
        ({"ike": {"proposals": ["aes256gcm16-prfsha384-x25519-ke1_mlkem768"]}}, DEBIAN_12, "additional-key-exchanges"),
        ({"ike": {"proposals": ["aes256gcm16-x25519"]}}, DEBIAN_13, "requires a PRF"),
        ({"ike": {"proposals": ["aes256gcm16-prfsha384"]}}, DEBIAN_13, "no key exchange"),
        ({"options": {"child": {"mode": "transport"}}}, LIBIPSEC, "options.child.mode"),
        ({"child": {"name": "web", "mode": "transport"}}, LIBIPSEC, "children.web.mode"),
        ({"child": {"proposals": ["aes256gcm16-x25519-esn"]}}, LIBIPSEC, "esn"),
        ({"link": {"xfrm": {"if_id_in": 4}}}, LIBIPSEC, "if_id_in"),
        ({"link": {"remote_auth": {"kind": "psk", "identity": "hub", "secret": "s"}}}, DEBIAN_12, "remote_auth"),
        ({"options": {"child": {"dpd_action": "trap"}}}, DEBIAN_12, "options.child.dpd_action"),
    ],
)
def test_what_this_charon_cannot_do_is_refused_by_field(
    changes: dict[str, Any], abilities: CharonAbilities, field: str
) -> None:
    with pytest.raises(ConfigRefusedError, match=field):
        check(config(**changes), abilities)


def test_missing_algorithm_is_named() -> None:
    with pytest.raises(ConfigRefusedError, match=r"crypto\.ike: this charon has no x25519"):
        check(config(), CharonAbilities("5.9.8", algorithms=frozenset({"AES_GCM_16", "PRF_HMAC_SHA2_384"})))


def test_keys_are_wrapped_as_rfc_8410_says() -> None:
    """Its own examples: sections 10.1 and 10.3."""
    public = base64.b64decode("MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=")
    private = base64.b64decode("MC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC")
    assert build_public_key(public[-32:]) == public
    assert build_private_key(private[-32:]) == private
    assert bytes(SigningKey(private[-32:]).verify_key) == public[-32:]


@pytest.mark.parametrize(
    ("text", "number"), [("5.9.8", (5, 9, 8)), ("6.0.3rc1", (6, 0, 3)), ("6.1", (6, 1, 0)), ("", (0, 0, 0))]
)
def test_versions_are_read(text: str, number: tuple[int, int, int]) -> None:
    assert parse_version(text) == number


def test_every_keyword_has_a_name_in_charon() -> None:
    words = (*AEAD_CIPHERS, *CIPHERS, *INTEGRITIES, *PRFS, *GROUPS)
    names = {word: algorithm_name(word) for word in words}
    assert names["aes256gcm16"] == "AES_GCM_16"
    assert names["aes192ctr"] == "AES_CTR"
    assert names["modp2048s256"] == "MODP_2048_256"
    assert names["ecp256bp"] == "ECP_256_BP"
    assert names["mlkem768"] == "ML_KEM_768"
    assert all(name == name.upper() for name in names.values())


def test_addresses_that_the_host_does_not_have_are_dropped() -> None:
    made = config(local_endpoints=["198.51.100.7", "192.0.2.2", "gw.example.org"])
    kept = with_own_addresses(made, lambda address: str(address) == "192.0.2.2")
    assert [str(address) for address in kept.local_endpoints] == ["192.0.2.2", "gw.example.org"]
    assert with_own_addresses(kept, lambda address: True) is kept
    assert host_owns(IPv4Address("127.0.0.1"))
    assert not host_owns(IPv4Address("203.0.113.255"))


def test_plugins_of_a_heartbeat_are_bounded_and_valid() -> None:
    assert (
        CharonAbilities(plugins=frozenset({"vici", "aes", "Odd Name", "kernel-libipsec"})).plugin_names
        == "aes kernel-libipsec vici"
    )
    many = CharonAbilities(plugins=frozenset(f"plugin-{number:04}" for number in range(500))).plugin_names
    assert len(many) <= MAX_PLUGINS
    assert DriverStatus(kind="strongswan", plugins=many).plugins.endswith(" plugin-0084")
    assert DriverStatus(kind="strongswan", plugins=CharonAbilities().plugin_names).plugins == ""
