"""Input models are strict, documents are tolerant, and neither has a field for a secret."""

import pytest
from pydantic import ValidationError

from warren_contracts.base import Document, Input
from warren_contracts.commands import ApplyPolicies, OperatorToken, Role
from warren_contracts.documents import EnrolRequest, signing_input
from warren_contracts.names import NAME_PATTERN
from warren_contracts.pages import fit_page
from warren_contracts.peers import PeerRecord
from warren_contracts.policy import Policy
from warren_contracts.problems import ConflictError, InvalidField, UnavailableError, WarrenError, invalid_input
from warren_contracts.status import DriverStatus, HostFacts
from warren_contracts.verbs import COMMANDS

HUB_SPOKE = {"id": "p", "topology": {"kind": "hub-spoke", "hubs": ["tag=hub"], "spokes": ["tag=spoke"]}}


def _refusal(data: object) -> str:
    with pytest.raises(ValidationError) as caught:
        Policy.model_validate(data)
    return invalid_input(caught.value.errors()).problem().line


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"colour": "red"}, "colour"),
        ({"priority": "high"}, "priority"),
        ({"topology": {"kind": "ring"}}, "topology"),
        ({"topology": {"kind": "hub-spoke", "hubs": [], "spokes": ["tag=a"]}}, "topology/hubs"),
        ({"topology": {"kind": "mesh", "members": ["tag=>"]}}, "topology/members/0"),
        ({"crypto": {"ike": ["aes256gcm16-sha256-x25519"]}}, "crypto/ike/0"),
        ({"crypto": {"esp": ["rot13"]}}, "crypto/esp/0"),
        ({"options": {"child": {"rekey_time": 60}}}, "options/child/rekey_time"),
        ({"options": {"child": {"rekey_time": 3600, "life_time": 3600}}}, "options/child"),
        ({"psk": "hunter22"}, "psk"),
        ({"auth": "psk"}, "auth"),
        ({"auth": {"kind": "psk", "secret": "No Name"}}, "auth/secret"),
        ({"topology": None}, "topology"),
    ],
)
def test_policy_refusal_names_the_field(change: dict[str, object], field: str) -> None:
    line = _refusal(HUB_SPOKE | change)
    assert field in line
    assert "hunter22" not in line


def test_tunnel_with_a_bad_network_names_it() -> None:
    ends = [{"peer": "a", "subnets": ["10.0.0.0/33"]}, {"peer": "b"}]
    assert "tunnels/0/ends/0/subnets/0" in _refusal({"id": "p", "tunnels": [{"name": "t", "ends": ends}]})


def test_foreign_end_without_key_is_refused() -> None:
    ends = [{"peer": "a"}, {"identity": "gw.example.org", "subnets": ["10.9.0.0/24"]}]
    assert "public_key" in _refusal({"id": "p", "tunnels": [{"name": "t", "ends": ends}]})


def test_documents_ignore_fields_of_newer_writers() -> None:
    record = PeerRecord.model_validate({"peer": "a", "epoch": 1, "revision": 1, "identity": "a", "later": 1})
    assert record.peer == "a"


def test_policy_json_round_trip() -> None:
    policy = Policy.model_validate(HUB_SPOKE | {"crypto": {"ike": ["aes256-sha256-prfsha256-ecp256"]}})
    assert Policy.model_validate_json(policy.model_dump_json()) == policy


def test_no_field_of_a_policy_could_hold_a_secret() -> None:
    forbidden = ("psk", "password", "secret", "private", "seed", "token")

    def walk(schema: dict[str, object]) -> list[str]:
        found: list[str] = []
        for key, value in schema.items():
            if key == "properties" and isinstance(value, dict):
                # `secret` holds the name of a secret, which is restricted to a token
                suspects = {name: it for name, it in value.items() if any(word in name for word in forbidden)}
                found += [name for name, it in suspects.items() if it.get("pattern") != NAME_PATTERN]
            for child in value if isinstance(value, list) else [value]:
                found += walk(child) if isinstance(child, dict) else []
        return found

    assert walk(Policy.model_json_schema()) == []


def test_secrets_have_no_repr() -> None:
    assert "s3cret" not in repr(EnrolRequest(peer="a", token="s3cret"))
    assert "s3cret" not in repr(OperatorToken(name="a", role=Role.VIEWER, token="s3cret"))


def test_every_command_is_strict_in_or_documented_out() -> None:
    assert len({(command.service, command.verb) for command in COMMANDS}) == len(COMMANDS)
    for command in COMMANDS:
        assert issubclass(command.request, Input | Document), command
        assert issubclass(command.reply, Document), command
    with pytest.raises(ValidationError):
        ApplyPolicies.model_validate({"policies": [HUB_SPOKE], "force": True})


def test_signing_input_binds_every_part() -> None:
    base = signing_input("s", 1, 2, b"{}")
    others = [signing_input("t", 1, 2, b"{}"), signing_input("s", 2, 2, b"{}"), signing_input("s", 1, 3, b"{}")]
    assert base not in others
    assert base != signing_input("s", 1, 2, b"{} ")


def test_problem_of_an_error() -> None:
    problem = ConflictError("policy p is at version 3").problem(instance="0af7")
    assert (problem.status, problem.type) == (409, "urn:warren:problem:conflict")
    assert problem.line == "Conflict: policy p is at version 3"


def test_a_page_is_cut_by_bytes_and_never_empty() -> None:
    entries = [InvalidField(field="f", message="x" * 100) for _ in range(10)]
    size = len(entries[0].model_dump_json()) + 1
    assert len(fit_page(entries)) == 10
    assert len(fit_page(entries, 3 * size)) == 3
    assert len(fit_page(entries, 1)) == 1
    assert fit_page([], 1) == ()


@pytest.mark.parametrize(
    "changes",
    [
        {"plugins": "vici\x1b[31m"}, {"plugins": "a" * 1_025}, {"plugins": "vici  aes"}, {"plugins": "vici "},
        {"plugins": " vici"}, {"socket": "/" * 129},
    ],
)  # fmt: skip
def test_facts_of_a_driver_that_a_peer_reports_are_bounded(changes: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        DriverStatus.model_validate({"kind": "strongswan", **changes})
    with pytest.raises(ValidationError):
        HostFacts.model_validate({"ike_sockets": ["0.0.0.0:500"] * 9})


def test_the_title_of_an_error_is_its_code_in_words_unless_it_states_one() -> None:
    class NeverSeenError(WarrenError):
        code = "never-seen-before"

    class StatedError(WarrenError):
        code = "stated"
        title = "Another title"

    class QuietError(UnavailableError):
        """Without a code of its own."""

    assert [it.title for it in (NeverSeenError, StatedError, QuietError)] == [
        "Never seen before", "Another title", "Unavailable",
    ]  # fmt: skip
