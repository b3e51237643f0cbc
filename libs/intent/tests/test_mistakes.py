"""Likely mistakes are reported at their field."""

from typing import Any

import pytest

from warren_intent.check import check
from warren_intent.findings import Code, Severity
from warren_testkit.intent import directory, public_key, published, record

FLEET = directory(record("a", 1, "hub"), record("b", 11, "branch"))
FOREIGN = {"public_key": public_key("f"), "subnets": ["10.99.0.0/24"], "addresses": ["203.0.113.9"]}
IKE = "aes256gcm16-prfsha384-x25519"


def tunnel(first: dict[str, Any], second: dict[str, Any] | None = None, **fields: Any) -> dict[str, Any]:
    return {"tunnels": [{"name": "x", "ends": [{"peer": "a", **first}, second or {"peer": "b"}], **fields}]}


REFUSED = [
    (tunnel({"addresses": ["::"]}), "tunnels/0/ends/0/addresses/0", Code.NO_ADDRESS),
    (tunnel({"addresses": ["192.0.2.1", "ff02::1"]}), "tunnels/0/ends/0/addresses/1", Code.NO_ADDRESS),
    (tunnel({}, {"peer": "b", "addresses": ["255.255.255.255"]}), "tunnels/0/ends/1/addresses/0", Code.NO_ADDRESS),
    (tunnel({"identity": "gw"}, FOREIGN | {"identity": "GW"}), "tunnels/0/ends/1/identity", Code.DUPLICATE_IDENTITY),
    (tunnel({"addresses": ["192.0.2.1"] * 2}), "tunnels/0/ends/0/addresses/1", Code.REPEATED),
    (tunnel({}, FOREIGN | {"identity": "f", "addresses": ["198.18.0.1"]}), "tunnels/0", Code.NO_ADDRESS),
    ({"members": ["all"], "crypto": {"ike": [IKE] * 17}}, "crypto/ike", Code.BAD_PROPOSAL),
]
WARNED = [
    (tunnel({"subnets": ["10.5.0.0/24"] * 2}), "tunnels/0/ends/0/subnets/1", Code.REPEATED),
    ({"members": ["all"], "crypto": {"ike": [IKE, IKE]}}, "crypto/ike/1", Code.REPEATED),
    (tunnel({}, crypto={"esp": ["null-sha256-x25519"]}), "tunnels/0/crypto/esp/0", Code.DOUBTFUL_ALGORITHM),
    ({"members": ["all"], "options": {"ike": {"dpd_delay": 0}}}, "options/ike/dpd_delay", Code.DOUBTFUL_OPTION),
    (
        {"members": ["all"], "options": {"child": {"life_packets": 5, "rekey_packets": 0}}},
        "options/child/life_packets",
        Code.DOUBTFUL_OPTION,
    ),
    (
        tunnel({}, options={"child": {"life_bytes": 9, "rekey_bytes": 0}}),
        "tunnels/0/options/child/life_bytes",
        Code.DOUBTFUL_OPTION,
    ),
]


@pytest.mark.parametrize(("fields", "field", "code"), REFUSED)
def test_an_impossible_value_is_refused_at_its_field(fields: dict[str, Any], field: str, code: Code) -> None:
    reported = {(it.field, it.code, it.severity) for it in check([published("p", **fields)], FLEET, {"hub", "branch"})}
    assert (f"policies/0/{field}", code, Severity.ERROR) in reported


@pytest.mark.parametrize(("fields", "field", "code"), WARNED)
def test_a_doubtful_value_is_warned_of_at_its_field(fields: dict[str, Any], field: str, code: Code) -> None:
    found = check([published("p", **fields)], FLEET, {"hub", "branch"})
    assert (f"policies/0/{field}", code, Severity.WARNING) in {(it.field, it.code, it.severity) for it in found}
    assert not [it for it in found if it.severity is Severity.ERROR]


def test_plain_policies_have_no_mistakes() -> None:
    limits = {"child": {"life_bytes": 9_000_000, "rekey_bytes": 8_000_000}}
    policy = published("p", **tunnel({"subnets": ["10.5.0.0/24"], "addresses": ["192.0.2.1"]}, options=limits))
    assert check([policy], FLEET, {"hub", "branch"}) == ()
