"""What `warren ike probe --policy` compares with: the policy as `warren policy apply` would read it."""

from pathlib import Path

import pytest

from warren_cli.ike.policy import requested_proposals
from warren_ikev2.errors import ConfigurationError

EXAMPLES = Path(__file__).parents[2] / "examples"
MESH = "id: a\ntopology: {kind: mesh, members: [all]}\n"


def test_the_proposals_of_a_policy_file() -> None:
    requested = requested_proposals([], "", EXAMPLES / "spoke-1-crypto.yaml")
    assert requested is not None
    assert requested.source == "policy spoke-1-crypto"
    assert requested.proposals


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (MESH + "id: b\n", "duplicate key 'id'"),
        (MESH + "---\n" + MESH.replace("id: a", "id: b"), "holds 2 policies"),
        (MESH + "priority: '5'\n", "priority: must be an integer"),
        ("", "no policy was found"),
    ],
)
def test_a_policy_that_could_not_be_applied_is_not_compared_with(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "p.yaml"
    path.write_text(text)
    with pytest.raises(ConfigurationError, match=said):
        requested_proposals([], "", path)


def test_a_proposal_is_parsed_as_in_a_policy() -> None:
    requested = requested_proposals(["AES256GCM128-prfsha384-curve25519"], "", None)
    assert requested is not None
    assert [str(it) for it in requested.proposals] == ["aes256gcm16-prfsha384-x25519"]
    with pytest.raises(ConfigurationError, match="remove sha256"):
        requested_proposals(["aes256gcm16-sha256-x25519"], "", None)
