"""`warren policy plan`, and the application of a plan, against an API server on a real socket."""

import json
from pathlib import Path

from warren_testkit.api.live import LiveApi
from warren_testkit.verbs import MESH, Run, write
from warren_trust.keys import KeyKind, KeyPair


def test_a_plan_shows_fields_and_tunnels_and_its_exit_code_is_detailed_on_demand(
    run: Run, api: LiveApi, tmp_path: Path
) -> None:
    first = write(tmp_path, "m.yaml", MESH + "priority: 5\n")
    assert run("policy", "plan", first).stdout.splitlines()[0] == "policy mesh: created (new)"
    run("policy", "plan", first, "--detailed-exitcode", code=3, lines=0)
    run("policy", "apply", first)
    run("policy", "plan", first, "--detailed-exitcode")
    api.bus.add_tunnel("hub+spoke-1")
    edited = write(tmp_path, "e.yaml", MESH + "priority: 7\n")
    assert run("policy", "plan", edited).stdout.splitlines() == [
        "policy mesh: updated (version 1)",
        "  priority: 5 -> 7",
        "tunnels: 1 re-established, 3 untouched",
        "  hub+spoke-1: re-established next to the old one (now up)",
    ]
    planned = json.loads(run("policy", "plan", edited, "--json").stdout)
    assert planned["tunnels"][0]["state"] == "up"
    assert api.bus.policies["mesh"].policy.priority == 5


def test_a_plan_file_is_applied_exactly_or_not_at_all(run: Run, api: LiveApi, tmp_path: Path) -> None:
    plan = tmp_path / "change.plan"
    source = write(tmp_path, "m.yaml", MESH + "priority: 5\n")
    assert run("policy", "plan", source, "--out", str(plan)).stdout.endswith(f"warren policy apply {plan}\n")
    changed = json.loads(plan.read_text())
    changed["policies"][0]["priority"] = 6
    tampered = write(tmp_path, "tampered.plan", json.dumps(changed))
    assert "plan no longer holds" in run("policy", "apply", tampered, code=1).stderr
    run("policy", "apply", str(plan), source, code=2)
    assert "created mesh" in run("policy", "apply", str(plan)).stdout
    assert "plan no longer holds" in run("policy", "apply", str(plan), code=1).stderr
    assert api.bus.policies["mesh"].policy.version == 1
    broken = write(tmp_path, "broken.plan", json.dumps(json.loads(plan.read_text()) | {"format": 2}))
    assert "invalid plan" in run("policy", "apply", broken, code=1).stderr


def test_a_plan_of_another_fleet_or_without_its_end_is_refused(run: Run, api: LiveApi, tmp_path: Path) -> None:
    plan = tmp_path / "change.plan"
    run("policy", "plan", write(tmp_path, "m.yaml", MESH), "--out", str(plan))
    text = plan.read_text()
    # Everything else is the same there: the first revision, and no tunnel yet.
    other = KeyPair.generate(KeyKind.SIGNING).public_base64
    foreign = write(tmp_path, "foreign.plan", json.dumps(json.loads(text) | {"fleet": other}))
    refused = run("policy", "apply", foreign, code=1).stderr
    assert "the plan is of another fleet" in refused
    assert api.url in refused
    for length in (0, 30, len(text) // 2, text.rindex("}")):
        run("policy", "apply", write(tmp_path, "short.plan", text[:length]), code=1)
    assert api.bus.policies == {}
    assert "nothing was stored" in run("policy", "apply", str(plan), "--dry-run").stdout
    assert "created mesh" in run("policy", "apply", str(plan)).stdout


def test_the_history_of_a_tunnel_and_the_fleet_at_a_time_are_shown(run: Run, api: LiveApi) -> None:
    api.bus.add_tunnel("hub+spoke-1")
    shown = run("tunnels", "history", "hub+spoke-1").stdout.splitlines()
    assert shown[0].split() == ["24", "h", "u" * 96, "100.00%", "up"]
    assert shown[3].split()[-4:] == ["hub", "down", "->", "up"]
    assert json.loads(run("tunnels", "history", "hub+spoke-1", "--json").stdout)["name"] == "hub+spoke-1"
    assert "unknown tunnel" in run("tunnels", "history", "nosuch", code=1).stderr
    then = run("status", "--at", "2026-01-01T00:00:00Z").stdout
    assert "tunnels   1 up" in then
    assert "services" not in then
    assert "at:" in run("status", "--at", "2199-01-01T00:00:00Z", code=1).stderr
    assert "at" in run("status", "--at", "yesterday", code=1).stderr
    run("status", "--at", "2026-01-01T00:00:00Z", "--tag", "hub", code=2)


def test_the_audit_log_is_verified_and_exported(run: Run, api: LiveApi, tmp_path: Path) -> None:
    api.bus.add_peer("gw1", "branch")
    run("peers", "retag", "gw1", "hub", "--yes")
    run("policy", "apply", write(tmp_path, "m.yaml", MESH))
    assert "is whole: 1 rows" in run("audit", "verify").stdout
    file = tmp_path / "audit.jsonl"
    run("audit", "export", str(file))
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert [(it["log"], it["action"]) for it in lines] == [("registry", "retag"), ("policy", "apply")]
    assert run("audit", "export").stdout == file.read_text()
    assert "policy apply" in run("audit", "list").stdout
