"""Plans, differences, roll-backs, audit and history over HTTP, on a fake bus."""

from warren_contracts.commands import Role
from warren_contracts.rollouts import PolicyRollout, RolloutState
from warren_contracts.status import TunnelState
from warren_testkit.api.client import MESH, Client, problem


async def test_a_plan_is_joined_with_the_present_states_and_applied_exactly(api: Client) -> None:
    api.bus.add_tunnel("hub+spoke-1", TunnelState.DEGRADED)
    plan = (await api.role(Role.OPERATOR).post("/api/policies:plan", json={"policies": [MESH]})).json()
    assert (plan["states_known"], plan["tunnels"][0]["state"]) == (True, "degraded")
    assert plan["tunnels"][0]["interruption"] == "re-established"
    body = {"policies": [MESH], "plan": plan["mark"]}
    assert (await api.post("/api/policies:apply", json=body)).json()["created"] == ["mesh"]
    problem(await api.post("/api/policies:apply", json=body), 409, "plan-moved")
    problem(await api.post("/api/policies:apply", json=body | {"plan": {"epoch": 1}}), 422, "invalid-input")


async def test_a_plan_is_made_without_the_present_states_where_they_are_not_known(api: Client) -> None:
    api.bus.unavailable = {"metrics"}
    plan = (await api.post("/api/policies:plan", json={"policies": [MESH]})).json()
    assert (plan["states_known"], plan["tunnels"][0]["state"]) == (False, None)
    problem(await api.role(Role.VIEWER).post("/api/policies:plan", json={"policies": [MESH]}), 403, "forbidden")


async def test_versions_are_compared_and_stored_again(api: Client) -> None:
    for priority in (5, 7):
        await api.put("/api/policies/mesh", json=MESH | {"priority": priority})
    diff = (await api.get("/api/policies/mesh/diff")).json()
    assert diff["changes"] == [{"field": "priority", "before": "5", "after": "7"}]
    assert (await api.get("/api/policies/mesh/diff?first=1&second=1")).json()["changes"] == []
    rollback = "/api/policies/mesh/rollback"
    problem(await api.post(rollback, json={"to": 1, "version": 1}), 409, "conflict")
    problem(await api.post(rollback, json={"to": 9}), 404, "not-found")
    problem(await api.role(Role.VIEWER).post(rollback, json={"to": 1}), 403, "forbidden")
    api.role(Role.OPERATOR)
    assert (await api.post(rollback, json={"to": 1, "dry_run": True})).json()["dry_run"] is True
    assert (await api.post(rollback, json={"to": 1, "version": 2})).json()["updated"] == ["mesh"]
    held = (await api.get("/api/policies/mesh")).json()["policy"]
    assert (held["version"], held["priority"]) == (3, 5)


async def test_a_deleted_policy_is_listed_and_created_again_by_a_rollback(api: Client) -> None:
    for priority in (5, 7):
        await api.put("/api/policies/mesh", json=MESH | {"priority": priority})
    rollback, viewer = "/api/policies/mesh/rollback", api.role(Role.VIEWER)
    assert (await viewer.get("/api/policies:deleted")).json() == {"policies": [], "next_after": None}
    api.role(Role.OPERATOR)
    problem(await api.post(rollback, json={"to": 1, "mode": "create"}), 409, "conflict")
    await api.delete("/api/policies/mesh")
    (gone,) = (await viewer.get("/api/policies:deleted?limit=1")).json()["policies"]
    assert (gone["id"], gone["version"], gone["actor"]) == ("mesh", 2, "the-operator")
    api.role(Role.OPERATOR)
    # Who has seen it stored does not create it again.
    problem(await api.post(rollback, json={"to": 1, "version": 2}), 409, "conflict")
    problem(await api.post(rollback, json={"to": 1, "mode": "update"}), 404, "not-found")
    problem(await api.post(rollback, json={"to": 1, "mode": "replace"}), 422, "invalid-input")
    assert (await api.post(rollback, json={"to": 1, "mode": "create"})).json()["created"] == ["mesh"]
    held = (await api.get("/api/policies/mesh")).json()["policy"]
    assert (held["version"], held["priority"]) == (3, 5)
    assert (await api.get("/api/policies:deleted")).json()["policies"] == []


async def test_the_audit_log_of_policies_is_for_administrators(api: Client) -> None:
    await api.post("/api/policies", json=MESH)
    assert [it["action"] for it in (await api.get("/api/audit/policies")).json()["entries"]] == ["apply"]
    assert (await api.get("/api/audit/verification")).json()["ok"] is True
    for path in ("/api/audit/policies", "/api/audit/verification"):
        problem(await api.role(Role.OPERATOR).get(path), 403, "forbidden")


async def test_the_past_is_read_by_viewers_and_questions_without_an_answer_name_their_field(api: Client) -> None:
    api.bus.add_tunnel("t")
    viewer = api.role(Role.VIEWER)
    history = (await viewer.get("/api/tunnels/t/history")).json()
    assert (history["entries"][0]["kind"], len(history["last_24h"]["buckets"])) == ("state", 96)
    fleet = (await viewer.get("/api/fleet?at=2026-01-01T00:00:00Z")).json()
    assert (fleet["desired"]["revision"], fleet["observed"]["states"]) == (0, {"up": 1})
    problem(await viewer.get("/api/tunnels/nosuch/history"), 404, "not-found")
    for path, field in (
        ("/api/fleet", "at"),
        ("/api/fleet?at=yesterday", "at"),
        ("/api/fleet?at=2026-01-01T00:00:00", "at"),
        ("/api/fleet?at=2199-01-01T00:00:00Z", "at"),
        ("/api/fleet?at=2026-01-01T00:00:00Z&tag=hub", "tag"),
        ("/api/tunnels/t/history?until=2199-01-01T00:00:00Z", "until"),
        ("/api/tunnels/t/history?before=x", "before"),
        ("/api/tunnels/t/history?limit=0", "limit"),
        ("/api/tunnels/t/history?since=1", "since"),
    ):
        refused = problem(await viewer.get(path), 422, "invalid-input")
        assert [it["field"] for it in refused["errors"]] == [field], path


async def test_rollouts_are_read_by_viewers_a_page_at_a_time(api: Client) -> None:
    states = {RolloutState.APPLIED: 37, RolloutState.FAILED: 3}
    api.bus.rollouts = [PolicyRollout(policy=name, revision=7, gateways=states) for name in ("a", "b")]
    viewer = api.role(Role.VIEWER)
    first = (await viewer.get("/api/rollouts?limit=1")).json()
    assert (first["rollouts"][0]["gateways"], first["next_after"]) == ({"applied": 37, "failed": 3}, "a")
    rest = (await viewer.get("/api/rollouts?after=a")).json()
    assert ([it["policy"] for it in rest["rollouts"]], rest["next_after"]) == (["b"], None)
