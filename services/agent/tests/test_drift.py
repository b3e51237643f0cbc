"""What charon holds against what it should hold, and whether a person's connection equals a tunnel: pure."""

from collections.abc import Collection
from dataclasses import replace

import pytest

from warren_agent.drivers.strongswan.adoption import differences
from warren_agent.drivers.strongswan.connections import HandleName, is_marked, level_mark
from warren_agent.drivers.strongswan.drift import CharonHoldings, Drift, Expected, compare, digest, rivals
from warren_agent.drivers.strongswan.plugins import missing_for_key, plugins_for
from warren_agent.drivers.strongswan.vici_codec import Section

CONNECTION = HandleName("a+b", 3)
CHILD = HandleName("a+b", 4, "net")
POOLS = frozenset({"warren.10.9.0.0_24"})
EXPECTED = Expected({CONNECTION: (CHILD,)}, key="k1", pools=POOLS)


LEVEL = "0123456789abcdef" * 2


def listed(*, mark: bool = True, child: str = "a+b.net~4", level: str = "", **changes: object) -> Section:
    """A connection as list-conns has it."""
    groups = [*([b"warren"] if mark else []), *([level_mark(level).encode()] if level else [])]
    section = {
        "remote_addrs": [b"192.0.2.1"], "dpd_delay": b"30", "unique": b"UNIQUE_NO",
        "local-1": {"class": b"public key", "groups": groups},
        "children": {child: {"mode": b"TUNNEL", "local-ts": [b"10.2.0.0/24"], "remote-ts": [b"10.1.0.0/24"]}},
    }  # fmt: skip
    return {**section, **changes}  # type: ignore[dict-item]


def held(
    connections: dict[str, Section], keys: Collection[str] = ("k1",), pools: frozenset[str] = POOLS
) -> CharonHoldings:
    return CharonHoldings(connections, frozenset(keys), pools)


def test_charon_that_holds_everything_has_no_drift() -> None:
    assert not compare(EXPECTED, held({"a+b~3": listed(), "berlin~2": listed(mark=False)}))


@pytest.mark.parametrize(
    ("found", "drift", "words"),
    [
        (held({}, set()), Drift(missing=(CONNECTION,), key_missing=True), "swanctl --load-all"),
        (held({}), Drift(missing=(CONNECTION,)), "swanctl --load-conns"),
        (held({"a+b~3": listed()}, set()), Drift(key_missing=True), "swanctl --load-creds"),
        (held({"a+b~3": listed(child="other")}), Drift(altered=(CONNECTION,)), "another configuration"),
        (held({"a+b~3": listed(mark=False)}), Drift(altered=(CONNECTION,)), "another configuration"),
    ],
    ids=["load-all", "load-conns", "load-creds", "other child", "without the marker"],
)
def test_what_is_missing_or_altered_is_named_with_its_probable_cause(
    found: CharonHoldings, drift: Drift, words: str
) -> None:
    assert compare(EXPECTED, found) == drift
    assert words in drift.of_tunnel("a+b")


def test_pool_concerns_the_tunnels_that_use_it() -> None:
    drift = compare(EXPECTED, held({"a+b~3": listed()}, pools=frozenset()))
    assert drift.pools == ("warren.10.9.0.0_24",)
    assert "warren.10.9.0.0_24" in drift.of_tunnel("a+b", POOLS)
    assert drift.of_tunnel("a+c") == ""


def test_field_that_was_changed_since_the_connection_was_loaded_is_drift() -> None:
    expected = Expected({CONNECTION: (CHILD,)}, key="k1", references={CONNECTION: digest(listed())})
    assert not compare(expected, held({"a+b~3": listed()}))
    assert compare(expected, held({"a+b~3": listed(dpd_delay=b"60")})).altered == (CONNECTION,)


def test_connection_of_another_ike_level_is_altered_although_everything_listed_is_equal() -> None:
    expected = Expected({CONNECTION: (CHILD,)}, key="k1", levels={CONNECTION: LEVEL})
    assert not compare(expected, held({"a+b~3": listed(level=LEVEL)}))
    assert compare(expected, held({"a+b~3": listed(level="f" * 32)})).altered == (CONNECTION,)
    assert compare(expected, held({"a+b~3": listed()})).altered == (CONNECTION,)


def test_sa_of_algorithms_that_its_connection_does_not_allow_is_drift() -> None:
    found = held({"a+b~3": listed()})
    drift = compare(EXPECTED, replace(found, foreign={CONNECTION: "aes128-sha1", HandleName("a+b", 2): "3des-sha1"}))
    assert drift.negotiated == {CONNECTION: "aes128-sha1"}
    assert "algorithms that it does not allow (aes128-sha1)" in drift.of_tunnel("a+b")


def test_marked_connection_that_nobody_desires_is_left_over_and_one_without_the_marker_is_foreign() -> None:
    connections = {"a+b~3": listed(), "a+b~2": listed(), "berlin~2": listed(mark=False), "berlin": listed(mark=False)}
    drift = compare(EXPECTED, held(connections))
    assert drift == Drift(leftover=(HandleName("a+b", 2),))
    assert is_marked(connections["a+b~2"])
    assert not is_marked(connections["berlin~2"])


def test_connection_of_an_earlier_run_that_nobody_asked_for_yet_is_not_left_over() -> None:
    expected = Expected({}, key="k1", known=frozenset({CONNECTION}))
    assert not compare(expected, held({"a+b~3": listed()}))
    assert not compare(expected, held({}))


def test_rival_is_a_foreign_connection_with_our_selectors() -> None:
    elsewhere = {"net": {"local-ts": [b"10.2.0.0/24"], "remote-ts": [b"10.7.0.0/24"]}}
    connections = {"a+b~3": listed(), "berlin~2": listed(mark=False), "paris": listed(mark=False, children=elsewhere)}
    assert rivals(held(connections), EXPECTED, owns=lambda handle: handle == CONNECTION) == {"a+b": ("berlin~2",)}


def test_connection_differs_by_its_fields_and_not_by_names_or_the_marker() -> None:
    assert differences(listed(), listed(mark=False, child="lan", unique=b"UNIQUE_REPLACE")) == []
    other = listed(mark=False, dpd_delay=b"60", remote_addrs=[b"192.0.2.9"])
    assert differences(listed(), other) == [
        "dpd_delay: 60 instead of 30",
        "remote_addrs: 192.0.2.9 instead of 192.0.2.1",
    ]
    assert differences(listed(), listed(children={})) == ["children: 0 instead of 1"]


@pytest.mark.parametrize(
    ("keyword", "plugins"),
    [
        ("chacha20poly1305", "chapoly or openssl"), ("aes256gcm16", "gcm or openssl"), ("aesxcbc", "xcbc"),
        ("x25519", "curve25519 or openssl"), ("prfsha384", "hmac or openssl"), ("mlkem768", "ml or openssl"), ("none", ""),
    ],
)  # fmt: skip
def test_missing_algorithm_names_its_plugins(keyword: str, plugins: str) -> None:
    assert plugins_for(keyword) == plugins


def test_refused_key_names_what_is_not_loaded() -> None:
    assert missing_for_key({"aes", "vici"}) == ("curve25519 or openssl", "pkcs8 or openssl")
    assert missing_for_key({"openssl"}) == ()
    assert missing_for_key(set()) == ()  # charon did not say which plugins it has
