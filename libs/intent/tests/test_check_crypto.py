"""What `check` finds in profiles, proposals and algorithms."""

from typing import Any

import pytest

from warren_contracts.peers import DriverCapabilities
from warren_intent.findings import Code, Severity, errors
from warren_testkit.check import FLEET, explicit, findings, fleet_with, only
from warren_testkit.intent import published

STAR: dict[str, Any] = {"hubs": ["tag=hub"], "spokes": ["tag=branch"]}
OLD = DriverCapabilities(ike=("aes256gcm16", "prfsha384", "ecp384"), esp=("aes256gcm16", "ecp384"))
OLDER = DriverCapabilities(ike=("aes128", "sha256", "modp2048"), esp=("aes256gcm16", "x25519"))


@pytest.mark.parametrize("profile", ["default", "rfc8247", "nist-800-77r1", "fips-140-3", "bsi-tr-02102-3"])
def test_a_policy_of_a_profile_has_no_findings(profile: str) -> None:
    assert not errors(findings(published("star", crypto={"profile": profile}, **STAR)))
    assert findings(published("star", **STAR)) == ()


@pytest.mark.parametrize("profile", ["cnsa1", "cnsa2"])
def test_cnsa_warns_of_the_keys_that_peers_have(profile: str) -> None:
    finding = only(findings(published("star", crypto={"profile": profile}, **STAR)), Code.DOUBTFUL_ALGORITHM)
    assert (finding.severity, finding.field) == (Severity.WARNING, "policies/0/crypto/profile")
    assert "Ed25519" in finding.message


def test_an_unknown_profile_is_refused_with_the_list() -> None:
    finding = only(findings(published("a", crypto={"profile": "nist"}, **STAR)), Code.UNKNOWN_PROFILE)
    assert finding.field == "policies/0/crypto/profile"
    assert "nist-800-77r1" in finding.message


def test_a_forbidden_algorithm_is_refused_by_name() -> None:
    finding = only(findings(published("a", crypto={"ike": ["3des-md5-modp1536"]}, **STAR)), Code.FORBIDDEN_ALGORITHM)
    assert finding.field == "policies/0/crypto/ike/0"
    assert finding.message.startswith("md5 is forbidden")


def test_the_profile_judges_own_proposals() -> None:
    own = {"profile": "nist-800-77r1", "ike": ["aes256gcm16-prfsha384-ecp384"], "esp": ["chacha20poly1305-x25519"]}
    found = findings(published("a", crypto=own, **STAR))
    assert only(found, Code.FORBIDDEN_ALGORITHM).field == "policies/0/crypto/esp/0"
    own["profile"] = "rfc8247"
    assert findings(published("a", crypto=own, **STAR)) == ()


def test_rows_that_were_only_recalled_warn() -> None:
    found = findings(published("a", crypto={"profile": "cnsa1", "esp": ["aes256gcm8-ecp384"]}, **STAR))
    assert not errors(found)
    assert "policies/0/crypto/esp/0" in {it.field for it in found}


@pytest.mark.parametrize(
    ("crypto", "field"),
    [
        ({"ike": ["aes256gcm16-prfsha384"]}, "ike/0"),
        ({"ike": ["aes256gcm16-x25519"]}, "ike/0"),
        ({"ike": ["null-sha256-x25519"]}, "ike/0"),
        ({"ike": ["aes256gcm16-prfsha384-x25519-esn"]}, "ike/0"),
        ({"esp": ["aes256gcm16-x25519", "aes256gcm16-prfsha384"]}, "esp/1"),
    ],
)
def test_a_proposal_of_the_wrong_shape_is_refused(crypto: dict[str, Any], field: str) -> None:
    found = findings(published("a", crypto=crypto, **STAR))
    assert only(errors(found), Code.BAD_PROPOSAL).field == f"policies/0/crypto/{field}"


def test_a_tunnel_s_own_crypto_is_judged_at_its_place() -> None:
    tunnel = explicit("t", "hub-1", "spoke-1", crypto={"ike": ["aes128-sha1-modp1024"]})
    found = findings(published("a", tunnels=[tunnel]))
    assert {it.field for it in errors(found)} == {"policies/0/tunnels/0/crypto/ike/0"}


def test_limits_of_a_profile_are_warned_of() -> None:
    options = {"child": {"rekey_time": 20_000, "life_time": 22_000, "replay_window": 32}}
    found = findings(published("a", crypto={"profile": "bsi-tr-02102-3"}, options=options, **STAR))
    assert {it.field for it in found} == {
        "policies/0/options/child/life_time",
        "policies/0/options/child/replay_window",
    }
    assert not errors(found)


def test_ends_that_can_express_no_common_proposal_are_warned_of() -> None:
    assert findings(published("a", **STAR), fleet=fleet_with("spoke-1", drivers=(OLD,))) == ()
    fleet = fleet_with("spoke-1", drivers=(OLDER,))
    finding = only(findings(published("a", **STAR), fleet=fleet), Code.NO_COMMON_PROPOSAL)
    assert finding.severity is Severity.WARNING
    assert finding.field == "policies/0/crypto"
    assert "hub-1+spoke-1" in finding.message


def test_a_stated_proposal_that_an_end_cannot_express_is_warned_of() -> None:
    own = {"ike": ["aes256gcm16-prfsha384-x25519", "aes256gcm16-prfsha384-ecp384"]}
    found = findings(published("a", crypto=own, **STAR), fleet=fleet_with("spoke-1", drivers=(OLD,)))
    finding = only(found, Code.UNSUPPORTED)
    assert (finding.severity, finding.field) == (Severity.WARNING, "policies/0/crypto/ike/0")
    assert finding.message.startswith("spoke-1: ")


def test_a_profile_that_no_peer_supports_is_still_refused() -> None:
    weak = DriverCapabilities(ike=("aes128", "sha256", "modp2048"))
    fleet = {peer: it.model_copy(update={"drivers": (weak,)}) for peer, it in FLEET.items()}
    assert only(errors(findings(published("a", **STAR), fleet=fleet)), Code.NO_COMMON_PROPOSAL)
