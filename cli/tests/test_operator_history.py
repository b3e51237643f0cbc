"""`warren policy history`, `diff` and `rollback` against an API server on a real socket."""

import json
from pathlib import Path

import httpx
import pytest

from warren_contracts.commands import Role
from warren_contracts.policy import Policy
from warren_intent.policy_diff import changes
from warren_testkit.api import TOKENS
from warren_testkit.api.live import LiveApi
from warren_testkit.verbs import MESH, Run, write


def three_versions(run: Run, folder: Path) -> None:
    for text in ("priority: 5\n", "priority: 7\n", "priority: 7\ncrypto: {profile: cnsa1}\n"):
        run("policy", "apply", write(folder, "m.yaml", MESH + text))


def test_the_versions_of_a_policy_are_listed_the_newest_first(run: Run, tmp_path: Path) -> None:
    three_versions(run, tmp_path)
    header, *rows = run("policy", "history", "mesh").stdout.splitlines()
    assert header.split() == ["VERSION", "ACTION", "AT", "BY", "REVISION"]
    assert [row.split()[:2] for row in rows] == [["3", "updated"], ["2", "updated"], ["1", "created"]]
    assert len(json.loads(run("policy", "history", "mesh", "--limit", "2", "--json").stdout)) == 2
    assert "no policy nosuch" in run("policy", "history", "nosuch", code=1).stderr


def test_a_diff_names_each_field_and_its_exit_code_says_whether_there_are_any(run: Run, tmp_path: Path) -> None:
    three_versions(run, tmp_path)
    head, *fields = run("policy", "diff", "mesh", code=3, lines=0).stdout.splitlines()
    assert head.startswith("mesh: version 2 -> version 3, updated ")
    assert fields == ['  crypto/profile: (not stated) -> "cnsa1"']
    assert run("policy", "diff", "mesh", "1", "2", code=3, lines=0).stdout.splitlines()[1:] == ["  priority: 5 -> 7"]
    assert len(run("policy", "diff", "mesh", "2", "2").stdout.splitlines()) == 1
    found = json.loads(run("policy", "diff", "mesh", "1", "--json", code=3, lines=0).stdout)
    assert {it["field"]: it["before"] for it in found} == {"priority": "5", "crypto/profile": None}
    assert "has no version 9" in run("policy", "diff", "mesh", "9", code=1).stderr


def test_a_rollback_stores_the_earlier_content_as_a_new_version(run: Run, api: LiveApi, tmp_path: Path) -> None:
    three_versions(run, tmp_path)
    asked = run("policy", "rollback", "mesh", "--to", "1", code=2).stderr
    assert 'Roll mesh back to version 1: priority: 7 -> 5; crypto/profile: "cnsa1" -> (not stated).' in asked
    assert "hub+spoke-1: ike" in asked
    assert "nothing was stored" in run("policy", "rollback", "mesh", "--to", "1", "--dry-run").stdout
    assert api.bus.policies["mesh"].policy.version == 3
    assert run("policy", "rollback", "mesh", "--to", "1", "--yes").stdout.startswith("updated mesh (revision 4)")
    held = api.bus.policies["mesh"].policy
    assert (held.version, held.priority, held.crypto.profile) == (4, 5, None)


def test_a_deleted_policy_is_listed_and_rolled_back(run: Run, api: LiveApi, tmp_path: Path) -> None:
    three_versions(run, tmp_path)
    assert "No policy was deleted." in run("policy", "list", "--deleted").stderr
    run("policy", "delete", "mesh", "--yes")
    header, row = run("policy", "list", "--deleted").stdout.splitlines()
    assert header.split() == ["POLICY", "LAST", "VERSION", "DELETED", "BY", "REVISION"]
    assert row.split()[:2] == ["mesh", "3"]
    assert [it["id"] for it in json.loads(run("policy", "list", "--deleted", "--json").stdout)] == ["mesh"]
    asked = run("policy", "rollback", "mesh", "--to", "2", code=2).stderr
    assert "Roll mesh back to version 2: it was deleted " in asked
    assert "is created again" in asked
    assert "mesh" not in api.bus.policies
    assert run("policy", "rollback", "mesh", "--to", "2", "--yes").stdout.startswith("created mesh (revision 5)")
    held = api.bus.policies["mesh"].policy
    assert (held.version, held.priority, held.crypto.profile) == (4, 7, None)
    assert "No policy was deleted." in run("policy", "list", "--deleted").stderr


def test_a_rollback_of_a_deleted_policy_replaces_none_that_was_created_meanwhile(
    run: Run, api: LiveApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    three_versions(run, tmp_path)
    run("policy", "delete", "mesh", "--yes")
    theirs = {"id": "mesh", "topology": {"kind": "mesh", "members": ["tag=branch"]}, "priority": 9}

    def answer(question: str, yes: bool) -> None:
        """Somebody else is faster than who reads the question."""
        headers = {"authorization": f"Bearer {TOKENS[Role.OPERATOR]}"}
        assert httpx.put(f"{api.url}/api/policies/mesh", json=theirs, headers=headers).status_code == 201

    monkeypatch.setattr("warren_cli.remote.policy_history.confirm", answer)
    assert "exists already" in run("policy", "rollback", "mesh", "--to", "1", code=1).stderr
    assert api.bus.policies["mesh"].policy.priority == 9


def test_lists_of_words_are_one_value_and_lists_of_mappings_are_compared_by_entry() -> None:
    end = {"peer": "a", "subnets": ["10.0.0.0/24"]}
    tunnels = [{"name": "t", "ends": [end, {"peer": "b"}]}]
    before = Policy.model_validate({"id": "p", "tunnels": tunnels})
    tunnels[0]["ends"][0] = {**end, "subnets": ["10.0.0.0/24", "10.0.1.0/24"]}  # type: ignore[index]  # a list
    after = Policy.model_validate({"id": "p", "tunnels": tunnels})
    (change,) = changes(before, after)
    assert str(change) == 'tunnels/0/ends/0/subnets: ["10.0.0.0/24"] -> ["10.0.0.0/24", "10.0.1.0/24"]'
    assert len(changes(None, before)) == len(changes(before, None)) == 5


def test_a_check_names_each_field_that_would_change(run: Run, tmp_path: Path) -> None:
    """Also one that was left out and so falls back to its default."""
    run("policy", "apply", write(tmp_path, "m.yaml", MESH + "crypto: {profile: nist-800-77r1}\n"))
    said = run("policy", "check", write(tmp_path, "m.yaml", MESH + "priority: 7\n")).stdout.splitlines()
    assert set(said[1:3]) == {
        "  mesh: priority: (not stated) -> 7",
        '  mesh: crypto/profile: "nist-800-77r1" -> (not stated)',
    }
