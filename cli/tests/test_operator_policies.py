"""`warren policy` against an API server on a real socket: what it reads, what it refuses and where, what it prints."""

import json
from pathlib import Path

import pytest

from warren_contracts.rollouts import PolicyRollout, RolloutState, WaitingGateway
from warren_testkit.api.live import LiveApi
from warren_testkit.verbs import MESH, Run, write


def test_apply_stores_every_document_of_a_file_in_one_revision(run: Run, api: LiveApi, tmp_path: Path) -> None:
    file = write(tmp_path, "two.yaml", MESH + "---\n" + MESH.replace("id: mesh", "id: other") + "---\n")
    assert run("policy", "apply", file).stdout == "created mesh, other (revision 1)\n"
    assert sorted(api.bus.policies) == ["mesh", "other"]
    assert json.loads(run("policy", "apply", file, "--json").stdout)["updated"] == ["mesh", "other"]


def test_apply_reads_standard_input_folders_and_json(run: Run, api: LiveApi, tmp_path: Path) -> None:
    run("policy", "apply", "-", stdin=MESH)
    folder = tmp_path / "policies"
    folder.mkdir()
    write(folder, "b.json", json.dumps({"id": "b", "topology": {"kind": "mesh", "members": ["all"]}}))
    write(folder, "a.yaml", MESH.replace("id: mesh", "id: a"))
    write(folder, "notes.txt", "not a policy")
    assert run("policy", "apply", str(folder)).stdout == "created a, b (revision 2)\n"


def test_apply_of_a_dry_run_stores_nothing(run: Run, api: LiveApi, tmp_path: Path) -> None:
    said = run("policy", "apply", write(tmp_path, "m.yaml", MESH), "--dry-run").stdout
    assert "nothing was stored" in said
    assert said.endswith("tunnels: 3 untouched, 1 re-authenticated\n  hub+spoke-1: ike\n")
    assert api.bus.policies == {}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            MESH + "---\nid: b\ncolour: red\ntopology: {kind: mesh, members: [all]}\n",
            "document 2: colour: unknown field",
        ),
        (MESH.replace("tag=branch", "branch"), "document 1: topology/members/0: must be `all`"),
        (MESH + "options: {mobikee: true}\n", "document 1: options/mobikee: unknown field"),
        (MESH + "applies_to: []\n", "document 1: applies_to: must have at least one entry, or be omitted"),
        (MESH + "id: twice\n", "line 3, column 1: duplicate key 'id'"),
        ("id: [\n", "line 2, column 1"),
        ("- id: a\n", "document 1: a policy is a mapping"),
        (MESH + "---\n" + MESH, "document 2: id: duplicate policy id mesh (also in"),
        ("", "no policy was found"),
        ("? [a, b]\n: 1\n", "line 1, column 3: mapping keys must be plain strings"),
        ("? {a: b}\n: 1\n", "mapping keys must be plain strings"),
        (
            "base: &b {id: a}\ntwo:\n  <<: *b\n",
            "line 3, column 3: merge keys (<<) are of YAML 1.1: write the fields out",
        ),
        (MESH + f"priority: {'9' * 5_000}\n", "line 3, column 11: this number has 5,000 digits"),
        (MESH + "priority: !!bool nonsense\n", "a value contradicts the tag"),
        (MESH + "priority: !!int nonsense\n", "a value contradicts the tag"),
        (MESH + "priority: '5'\n", "document 1: priority: must be an integer, without quotes"),
        (MESH + "priority: 1:30\n", "document 1: priority: must be an integer, without quotes"),
        (MESH + "priority: true\n", "document 1: priority: must be an integer, without quotes"),
        (MESH + "enabled: yes\n", "document 1: enabled: must be true or false, without quotes"),
        (MESH + "options: {ike: {mobike: 'true'}}\n", "document 1: options/ike/mobike: must be true or false"),
        (MESH + "options: {ike: {dpd_delay: -1}}\n", "document 1: options/ike/dpd_delay: must be at least 0"),
        (MESH + "auth: psk\n", "document 1: auth: must be a mapping of fields"),
        (MESH + "applies_to: all\n", "document 1: applies_to: must be a list"),
        (MESH + "crypto: strong\n", "document 1: crypto: must be a mapping of fields"),
        (
            MESH + "options: {child: {hw_offload: much}}\n",
            "options/child/hw_offload: must be one of no, auto, yes, crypto, packet",
        ),
        (
            "id: a\n\tname: b\n",
            "line 2, column 1: found a tab character that violates indentation: indent with spaces",
        ),
        ("id: a\n name: b\n", "mapping values are not allowed in this context: check the indentation of line 2"),
        ("id: deep\ntunnels: " + "[" * 50_000, "line 2, column 73: nested too deeply"),
        ("- " * 50_000, "nested too deeply"),
        ("# " + "x" * 8_000_000, "more than 8,000,000 bytes"),
    ],
)
def test_apply_names_the_file_the_document_and_the_field(run: Run, tmp_path: Path, text: str, said: str) -> None:
    file = write(tmp_path, "wrong.yaml", text)
    error = run("policy", "apply", file, code=1).stderr
    assert said in error
    assert "wrong.yaml" in error


def test_apply_names_the_place_of_an_error_of_the_api_server(tmp_path: Path) -> None:
    from warren_cli.remote.documents import load, located
    from warren_contracts.problems import InvalidField

    loaded = load([write(tmp_path, "a.yaml", MESH), write(tmp_path, "b.yaml", MESH.replace("id: mesh", "id: b"))])
    errors = (InvalidField(field="policies/1/topology/members/0", message="no peer carries the tag branch"),)
    found = f"{tmp_path}/b.yaml, document 1: topology/members/0: no peer carries the tag branch (line 2)"
    assert located(loaded, errors) == [found]


def test_apply_prints_warnings_at_their_place(run: Run, tmp_path: Path) -> None:
    result = run("policy", "apply", write(tmp_path, "m.yaml", MESH + "crypto: {esp: [aes256gcm16]}\n"))
    assert result.stdout == "created mesh (revision 1)\n"
    assert result.stderr == f"warning: {tmp_path}/m.yaml, document 1: crypto: no forward secrecy (line 3)\n"


def test_apply_reads_yaml_as_its_words(run: Run, api: LiveApi, tmp_path: Path) -> None:
    run(
        "policy",
        "apply",
        write(
            tmp_path, "m.yaml", MESH + "options: {ike: {fragmentation: yes, mobike: true}, child: {copy_dscp: no}}\n"
        ),
    )
    options = api.bus.policies["mesh"].policy.options
    assert (options.ike.fragmentation.value, options.child.copy_dscp, options.ike.mobike) == ("yes", "no", True)


def test_apply_reads_numbers_as_yaml_1_2(run: Run, api: LiveApi, tmp_path: Path) -> None:
    for text, number in (("010", 10), ("0o10", 8), ("0x10", 16), ("+7", 7), ("-7", -7)):
        run("policy", "apply", write(tmp_path, "m.yaml", MESH + f"priority: {text}\n"))
        assert api.bus.policies["mesh"].policy.priority == number
    run("policy", "apply", write(tmp_path, "m.yaml", MESH + "name: 1:30\ndescription: 2026-01-01\n"))
    held = api.bus.policies["mesh"].policy
    assert (held.name, held.description) == ("1:30", "2026-01-01")


def test_a_policy_that_is_shown_can_be_applied_again(run: Run, api: LiveApi, tmp_path: Path) -> None:
    run("policy", "apply", write(tmp_path, "m.yaml", MESH + "crypto: {esp: [aes256gcm16-x25519]}\npriority: 7\n"))
    shown = run("policy", "show", "mesh").stdout
    before = api.bus.policies["mesh"].policy
    run("policy", "apply", "-", stdin=shown)
    assert api.bus.policies["mesh"].policy == before.model_copy(update={"version": 2})
    assert json.loads(run("policy", "show", "mesh", "--json").stdout)["policy"]["priority"] == 7


def test_policies_are_listed_and_deleted(run: Run, tmp_path: Path) -> None:
    run("policy", "apply", write(tmp_path, "m.yaml", MESH))
    header, row = run("policy", "list").stdout.splitlines()
    assert header.split()[:3] == ["POLICY", "VERSION", "PRIORITY"]
    assert row.split()[:6] == ["mesh", "1", "100", "yes", "mesh", "default"]
    assert run("policy", "delete", "mesh", "--yes").stdout == "deleted mesh (revision 2)\n"
    assert json.loads(run("policy", "list", "--json").stdout) == []
    assert run("policy", "delete", "mesh", code=1).stderr == "warren: Not found: there is no policy mesh\n"


def test_policies_are_deleted_together_or_none_is(run: Run, api: LiveApi, tmp_path: Path) -> None:
    run("policy", "apply", write(tmp_path, "two.yaml", MESH + "---\n" + MESH.replace("id: mesh", "id: lax")))
    assert "nosuch" in run("policy", "delete", "lax", "nosuch", "mesh", "--yes", code=1).stderr
    assert sorted(api.bus.policies) == ["lax", "mesh"]
    assert run("policy", "delete", "lax", "mesh", "-y").stdout == "deleted lax, mesh (revision 2)\n"
    assert "ids/0: must be 1 to 63" in run("policy", "delete", "../peers", "--yes", code=1).stderr


def test_many_policies_are_counted_and_a_few_named(run: Run, tmp_path: Path) -> None:
    text = "---\n".join(MESH.replace("id: mesh", f"id: p{number:03}") for number in range(300))
    said = run("policy", "apply", write(tmp_path, "many.yaml", text)).stdout
    assert said == "created 300 policies (p000, p001, p002, p003 and 296 more) (revision 1)\n"


def test_apply_names_every_finding_of_all_files(tmp_path: Path, run: Run) -> None:
    wrong = MESH + "colour: red\nenabled: yes\npriority: high\noptions: {mtu: 1400}\n"
    files = write(tmp_path, "a.yaml", wrong), write(tmp_path, "b.yaml", "id: [\n")
    lines = run("policy", "apply", *files, code=1, lines=5).stderr.splitlines()
    assert {line.split(": ")[2] for line in lines[:4]} == {"colour", "enabled", "priority", "options/mtu"}
    assert "b.yaml: line 2" in lines[4]


def test_an_edit_of_a_version_that_was_replaced_meanwhile_is_refused(run: Run, api: LiveApi, tmp_path: Path) -> None:
    run("policy", "apply", write(tmp_path, "m.yaml", MESH))
    shown = run("policy", "show", "mesh").stdout
    assert "version: 1" in shown
    run("policy", "apply", write(tmp_path, "bob.yaml", shown + "priority: 7\n"))
    run("policy", "apply", write(tmp_path, "ann.yaml", shown + "priority: 8\n"), code=1)
    assert api.bus.policies["mesh"].policy.priority == 7


def test_what_show_prints_as_json_can_be_applied(run: Run, api: LiveApi, tmp_path: Path) -> None:
    run("policy", "apply", write(tmp_path, "m.yaml", MESH))
    run("policy", "apply", "-", stdin=run("policy", "show", "mesh", "--json").stdout)
    assert api.bus.policies["mesh"].policy.version == 2


def test_a_folder_is_read_with_the_folders_below_it_but_not_what_is_hidden(
    run: Run, api: LiveApi, tmp_path: Path
) -> None:
    for name in ("sites/north", ".git"):
        (tmp_path / name).mkdir(parents=True)
    write(tmp_path / "sites/north", "a.yaml", MESH.replace("id: mesh", "id: north"))
    write(tmp_path / ".git", "b.yaml", "not: read\n")
    write(tmp_path, ".swap.yaml", "not: read\n")
    assert run("policy", "apply", str(tmp_path)).stdout == "created north (revision 1)\n"


def test_a_deletion_says_which_tunnels_end_and_asks(run: Run, api: LiveApi, tmp_path: Path) -> None:
    run("policy", "apply", write(tmp_path, "m.yaml", MESH))
    refused = run("policy", "delete", "mesh", code=2).stderr
    assert "Delete mesh: tunnels: 2 removed; hub+spoke-1: removed; hub+spoke-2: removed" in refused
    assert "add --yes" in refused
    said = run("policy", "delete", "mesh", "--dry-run").stdout
    assert said.startswith("deleted mesh (dry run: nothing was stored)\ntunnels: 2 removed\n")
    assert json.loads(run("policy", "delete", "mesh", "--dry-run", "--json").stdout)["dry_run"] is True
    assert "mesh" in api.bus.policies


def test_a_rollout_names_the_gateways_that_have_not_applied_the_revision(run: Run, api: LiveApi) -> None:
    assert "No policy is published." in run("policy", "rollout").stderr
    states = {RolloutState.APPLIED: 37, RolloutState.PENDING: 1, RolloutState.FAILED: 2, RolloutState.UNREACHABLE: 0}
    waiting = (
        WaitingGateway(peer="gw7", state=RolloutState.FAILED),
        WaitingGateway(peer="gw9", state=RolloutState.PENDING),
    )
    api.bus.rollouts = [
        PolicyRollout(policy="branches", revision=12, since=api.bus.now, gateways=states, waiting=waiting),
        PolicyRollout(policy="lab", revision=3, gateways={RolloutState.APPLIED: 4}),
    ]
    header, *rows = run("policy", "rollout", code=3, lines=0).stdout.splitlines()
    assert header.split() == ["POLICY", "REVISION", "APPLIED", "PENDING", "FAILED", "UNREACHABLE", "SINCE"]
    assert [row.split()[:8] for row in rows] == [
        ["branches", "12", "37", "of", "40", "1", "2", "0"], ["lab", "3", "4", "of", "4", "0", "0", "0"],
    ]  # fmt: skip
    said = run("policy", "rollout", "branches", code=3, lines=0).stdout.splitlines()
    assert said[0].startswith("branches: revision 12 is applied by 37 of 40 gateways since 2026-")
    assert [line.split() for line in said[2:]] == [["gw7", "failed"], ["gw9", "pending"], ["and", "1", "others"]]
    assert run("policy", "rollout", "lab").stdout.splitlines() == ["lab: revision 3 is applied by 4 of 4 gateways"]
    assert [it["policy"] for it in json.loads(run("policy", "rollout", "--json", code=3, lines=0).stdout)] == [
        "branches",
        "lab",
    ]
    assert "no policy nosuch is published" in run("policy", "rollout", "nosuch", code=1).stderr
