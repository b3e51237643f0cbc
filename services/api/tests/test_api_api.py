"""The REST endpoints on a fake bus: their calls and their responses."""

from typing import Any

import pytest

from warren_contracts.commands import Role
from warren_contracts.status import FleetTunnel, ReasonCode, TunnelState, TunnelStatus
from warren_testkit.api.client import MESH, Client, problem


async def test_a_policy_is_created_read_replaced_and_deleted_by_its_version(api: Client) -> None:
    created = await api.post("/api/policies", json=MESH)
    assert (created.status_code, created.json()["created"]) == (201, ["mesh"])
    assert created.headers["location"] == "/api/policies/mesh"
    held = await api.get("/api/policies/mesh")
    assert (held.headers["etag"], held.json()["policy"]["version"]) == ('"1"', 1)
    replaced = await api.put("/api/policies/mesh", json=MESH | {"priority": 7}, headers={"if-match": '"1"'})
    assert (replaced.status_code, replaced.json()["updated"]) == (200, ["mesh"])
    held = await api.get("/api/policies/mesh")
    assert (held.headers["etag"], held.json()["policy"]["priority"]) == ('"2"', 7)
    assert [it["policy"]["id"] for it in (await api.get("/api/policies")).json()["policies"]] == ["mesh"]
    assert (await api.delete("/api/policies/mesh", headers={"if-match": '"2"'})).json()["deleted"] == ["mesh"]
    problem(await api.get("/api/policies/mesh"), 404, "not-found")


async def test_several_policies_are_withdrawn_together_or_none_is(api: Client) -> None:
    for name in ("lax", "mesh"):
        await api.post("/api/policies", json=MESH | {"id": name})
    problem(await api.post("/api/policies:delete", json={"ids": ["lax", "nosuch"]}), 404, "not-found")
    body = {"ids": ["lax", "mesh"], "expected_versions": {"mesh": 9}}
    problem(await api.post("/api/policies:delete", json=body), 409, "conflict")
    assert sorted(api.bus.policies) == ["lax", "mesh"]
    assert (await api.post("/api/policies:delete", json={"ids": ["lax", "mesh"]})).json()["deleted"] == ["lax", "mesh"]
    assert api.bus.policies == {}


async def test_a_deletion_by_version_is_one_command_and_no_comparison_before_it(api: Client) -> None:
    await api.post("/api/policies", json=MESH)
    assert (await api.delete("/api/policies/mesh", headers={"if-match": '"1"'})).status_code == 200
    assert [verb for service, verb, _ in api.bus.calls if service == "policy"] == ["apply", "delete"]
    assert api.bus.calls[-1][2].expected_versions == {"mesh": 1}  # type: ignore[attr-defined] # DeletePolicies


async def test_a_change_without_a_reply_may_have_been_executed(api: Client) -> None:
    api.bus.hung = {"policy"}
    said = problem(await api.post("/api/policies", json=MESH), 503, "unavailable")["detail"]
    assert said == (
        "the policy service does not answer (within 20 s); it may still be executed: check with `warren policy list`"
    )
    said = problem(await api.get("/api/policies"), 503, "unavailable")["detail"]
    assert "executed" not in said


async def test_put_stores_a_policy_that_does_not_exist_unless_a_version_is_expected(api: Client) -> None:
    problem(await api.put("/api/policies/mesh", json=MESH, headers={"if-match": "*"}), 412, "precondition-failed")
    created = await api.put("/api/policies/mesh", json=MESH)
    assert (created.status_code, created.headers["etag"], created.headers["location"]) == (
        201, '"1"', "/api/policies/mesh"
    )  # fmt: skip
    replaced = await api.put("/api/policies/mesh", json=MESH)
    assert (replaced.status_code, replaced.headers["etag"]) == (200, '"2"')


async def test_if_none_match_any_only_creates(api: Client) -> None:
    """RFC 9110, 13.1.2: a policy that is there is not overwritten."""
    only_new = {"if-none-match": "*"}
    assert (await api.put("/api/policies/mesh", json=MESH, headers=only_new)).status_code == 201
    problem(await api.put("/api/policies/mesh", json=MESH, headers=only_new), 412, "precondition-failed")
    assert api.bus.policies["mesh"].policy.version == 1
    assert (await api.get("/api/policies/mesh", headers=only_new)).status_code == 304


@pytest.mark.parametrize(
    ("field", "value", "code"),
    [
        ("if-match", '"1"', 200),
        ("if-match", '"7", "1"', 200),
        ("if-match", '"7" ,"8"', 412),
        ("if-match", 'W/"1"', 412),  # If-Match compares strongly
        ("if-match", '"one"', 412),
        ("if-none-match", '"1"', 412),
        ("if-none-match", 'W/"1"', 412),  # If-None-Match compares weakly
        ("if-none-match", '"7", "8"', 200),
        ("if-match", "1", 422),
        ("if-match", '"1" "2"', 422),
        ("if-none-match", "", 422),
        ("if-match", ", ".join(['"7"'] * 33), 422),
    ],
)
async def test_a_change_under_a_condition(api: Client, field: str, value: str, code: int) -> None:
    await api.put("/api/policies/mesh", json=MESH)
    assert (await api.put("/api/policies/mesh", json=MESH, headers={field: value})).status_code == code
    assert api.bus.policies["mesh"].policy.version == (2 if code == 200 else 1)


async def test_the_version_in_a_policy_is_the_one_that_was_edited(api: Client) -> None:
    """Two people read a policy, and both write it back: the second is refused."""
    await api.put("/api/policies/mesh", json=MESH)
    held = (await api.get("/api/policies/mesh")).json()["policy"]
    assert (await api.put("/api/policies/mesh", json=held | {"priority": 7})).status_code == 200
    problem(await api.put("/api/policies/mesh", json=held | {"priority": 8}), 409, "conflict")
    assert api.bus.policies["mesh"].policy.priority == 7


async def test_head_options_and_the_methods_of_a_path(api: Client) -> None:
    await api.put("/api/policies/mesh", json=MESH)
    head = await api.request("HEAD", "/api/policies/mesh")
    assert (head.status_code, head.content, head.headers["etag"]) == (200, b"", '"1"')
    assert (await api.request("HEAD", "/api/events")).status_code == 200
    methods = "DELETE, GET, HEAD, OPTIONS, PUT"
    assert (await api.request("OPTIONS", "/api/policies/mesh")).headers["allow"] == methods
    refused = await api.request("PATCH", "/api/policies/mesh")
    problem(refused, 405, "method-not-allowed")
    assert refused.headers["allow"] == methods
    problem(await api.request("OPTIONS", "/api/nothing"), 404, "not-found")


async def test_unknown_query_parameters_are_refused(api: Client) -> None:
    refused = problem(await api.get("/api/policies?offset=2"), 422, "invalid-input")
    assert refused["errors"] == [{"field": "offset", "message": "unknown parameter: known are after, limit"}]
    problem(await api.get("/api/health/live?x=1"), 422, "invalid-input")


async def test_an_unchanged_policy_is_304_without_a_body(api: Client) -> None:
    await api.post("/api/policies", json=MESH)
    answer = await api.get("/api/policies/mesh", headers={"if-none-match": '"1"'})
    assert (answer.status_code, answer.content, answer.headers["etag"]) == (304, b"", '"1"')


async def test_creating_twice_is_a_conflict_and_another_version_a_failed_precondition(api: Client) -> None:
    await api.post("/api/policies", json=MESH)
    problem(await api.post("/api/policies", json=MESH), 409, "conflict")
    problem(await api.put("/api/policies/mesh", json=MESH, headers={"if-match": '"9"'}), 412, "precondition-failed")
    problem(await api.delete("/api/policies/mesh", headers={"if-match": '"9"'}), 412, "precondition-failed")
    refused = problem(await api.put("/api/policies/mesh", json=MESH, headers={"if-match": "W/1"}), 422, "invalid-input")
    assert refused["errors"][0]["field"] == "If-Match"


async def test_the_path_and_the_body_name_one_policy(api: Client) -> None:
    refused = problem(await api.put("/api/policies/other", json=MESH), 422, "invalid-input")
    assert refused["errors"][0]["field"] == "id"


async def test_several_policies_are_one_command_of_the_principal(api: Client) -> None:
    body = {"policies": [MESH, MESH | {"id": "second"}], "dry_run": True}
    answer = await api.role(Role.OPERATOR).post("/api/policies:apply", json=body)
    assert answer.json()["created"] == ["mesh", "second"]
    assert api.bus.policies == {}
    service, verb, command = api.bus.calls[-1]
    assert (service, verb, command.actor) == ("policy", "apply", "the-operator")  # type: ignore[attr-defined] # ApplyPolicies
    await api.post("/api/policies:apply", json=body | {"dry_run": False})
    assert sorted(api.bus.policies) == ["mesh", "second"]


async def test_a_policy_that_was_read_can_be_written_again(api: Client) -> None:
    await api.post("/api/policies", json=MESH)
    held = (await api.get("/api/policies/mesh")).json()["policy"]
    assert (await api.put("/api/policies/mesh", json=held | {"priority": 7})).json()["updated"] == ["mesh"]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"colour": "red"}, "policies/0/colour"),
        ({"topology": {"kind": "mesh", "members": ["tag=>"]}}, "policies/0/topology/members/0"),
        ({"topology": {"kind": "mesh", "members": []}}, "policies/0/topology/members"),
        ({"options": {"mobikee": True}}, "policies/0/options/mobikee"),
        ({"priority": "high"}, "policies/0/priority"),
        ({"priority": "5"}, "policies/0/priority"),
        ({"enabled": "yes"}, "policies/0/enabled"),
        ({"enabled": 1}, "policies/0/enabled"),
        ({"crypto": {"ike": ["rot13"]}}, "policies/0/crypto/ike/0"),
        ({"crypto": {"esp": []}}, "policies/0/crypto/esp"),
        ({"applies_to": []}, "policies/0/applies_to"),
    ],
)
async def test_a_wrong_policy_is_refused_by_field_before_the_bus_is_called(
    api: Client, change: dict[str, Any], field: str
) -> None:
    refused = problem(await api.post("/api/policies:apply", json={"policies": [MESH | change]}), 422, "invalid-input")
    assert [it["field"] for it in refused["errors"]] == [field]
    assert ("policy", "apply") not in [(service, verb) for service, verb, _ in api.bus.calls]


async def test_wrong_json_wrong_paths_and_wrong_methods_are_problems(api: Client) -> None:
    wrong = await api.post("/api/policies", content=b"{", headers={"content-type": "application/json"})
    said = "invalid JSON: line 1, column 2"
    assert problem(wrong, 422, "invalid-input")["errors"] == [{"field": "(root)", "message": said}]
    problem(await api.get("/api/nothing"), 404, "not-found")
    problem(await api.get("/nothing"), 404, "not-found")
    problem(await api.patch("/api/policies"), 405, "method-not-allowed")
    assert problem(await api.get("/api/peers/Gw.1"), 422, "invalid-input")["errors"][0]["field"] == "peer_id"
    assert problem(await api.get("/api/peers?limit=9999"), 422, "invalid-input")["errors"][0]["field"] == "limit"
    assert problem(await api.get("/api/tunnels?state=odd"), 422, "invalid-input")["errors"][0]["field"] == "state"


async def test_peers_are_listed_by_page_shown_retagged_and_revoked(api: Client) -> None:
    for peer in ("gw1", "gw2", "gw3"):
        api.bus.add_peer(peer, "branch")
    page = (await api.get("/api/peers", params={"limit": 2})).json()
    assert [it["peer"] for it in page["peers"]] == ["gw1", "gw2"]
    rest = (await api.get("/api/peers", params={"after": page["next_after"]})).json()
    assert [it["peer"] for it in rest["peers"]] == ["gw3"]
    assert (await api.put("/api/peers/gw1/tags", json={"tags": ["hub"]})).json()["tags"] == ["hub"]
    reply = (await api.put("/api/peers/gw1/priority", json={"priority": 200})).json()
    assert reply["record"]["priority"] == 200
    assert (await api.delete("/api/peers/gw1")).json()["revoked"] is True
    assert (await api.get("/api/peers/gw1")).json()["tags"] == ["hub"]


async def test_enrolment_and_status_point_to_the_bus(api: Client) -> None:
    assert "warren enrol" in problem(await api.post("/api/peers/register", json={}), 410, "on-the-bus")["detail"]
    problem(await api.put("/api/peers/gw1/status", json={"state": "up"}), 410, "on-the-bus")


async def test_tunnels_are_listed_by_peer_and_state_and_shown_by_name(api: Client) -> None:
    api.bus.add_tunnel("hub+spoke-1")
    api.bus.add_tunnel("hub+spoke-2", TunnelState.DOWN)
    listed = (await api.get("/api/tunnels", params={"state": "down", "peer": "hub"})).json()
    assert [it["name"] for it in listed["tunnels"]] == ["hub+spoke-2"]
    assert (await api.get("/api/tunnels/hub+spoke-1")).json()["state"] == "up"
    assert (await api.get("/api/tunnels/hub%2Bspoke-1")).json()["state"] == "up"
    problem(await api.get("/api/tunnels/none"), 404, "not-found")


async def test_a_tunnel_is_explained_from_both_ends(api: Client) -> None:
    """Its policy and one end may be deleted meanwhile: what is left is still explained."""
    for peer in ("hub", "spoke-1"):
        api.bus.add_peer(peer, "branch")
    waiting = TunnelStatus(name="hub+spoke-1", policy="gone", state=TunnelState.DOWN)
    calling = waiting.model_copy(
        update={"state": TunnelState.ERROR, "reason": ReasonCode.PROPOSAL_MISMATCH_IKE, "initiator": True}
    )
    ends = {"hub": waiting, "spoke-1": calling}
    api.bus.tunnels["hub+spoke-1"] = FleetTunnel(
        name="hub+spoke-1", state=TunnelState.ERROR, peers=("hub", "spoke-1"), ends=ends
    )
    found = (await api.get("/api/tunnels/hub+spoke-1/explanation")).json()
    assert (found["cause"], found["state"]) == ("proposal-mismatch-ike", "error")
    assert found["sentence"].startswith("spoke-1 offers ")
    assert found["action"]
    assert found["facts"][0].startswith("hub: down")
    problem(await api.get("/api/tunnels/none/explanation"), 404, "not-found")


async def test_tokens_are_created_by_admins(api: Client) -> None:
    made = await api.post("/api/join-tokens", json={"tags": ["branch"], "uses": 3})
    assert made.status_code == 201
    assert made.json()["token"].startswith("wj1_")
    assert made.headers["cache-control"] == "no-store"
    token = (await api.post("/api/operator-tokens", json={"name": "eve", "role": "viewer"})).json()["token"]
    api.headers["authorization"] = f"Bearer {token}"
    assert (await api.get("/api/policies")).status_code == 200
    problem(await api.post("/api/policies", json=MESH), 403, "forbidden")


async def test_tokens_are_listed_without_their_text_and_removed_by_admins(api: Client) -> None:
    join = (await api.post("/api/join-tokens", json={"tags": ["branch"], "note": "x"})).json()
    bearer = (await api.post("/api/operator-tokens", json={"name": "eve", "role": "viewer"})).json()["token"]
    problem(await api.post("/api/operator-tokens", json={"name": "eve", "role": "admin"}), 409, "conflict")
    listed = [await api.get(path) for path in ("/api/join-tokens", "/api/operator-tokens")]
    assert [[it.get("id", it.get("name")) for it in answer.json()["tokens"]] for answer in listed] == [
        [join["id"]],
        ["eve"],
    ]
    assert all(text not in answer.text for answer in listed for text in (join["token"], bearer))
    assert (await api.delete(f"/api/join-tokens/{join['id']}")).json()["tags"] == ["branch"]
    assert (await api.delete("/api/operator-tokens/eve")).json()["role"] == "viewer"
    problem(await api.delete("/api/operator-tokens/eve"), 404, "not-found")
    problem(await api.delete("/api/join-tokens/none"), 422, "invalid-input")
    api.headers["authorization"] = f"Bearer {bearer}"
    problem(await api.get("/api/policies"), 401, "unauthorized")


async def test_an_epoch_is_advanced_and_never_goes_back(api: Client) -> None:
    first = await api.post("/api/epoch", json={})
    assert (first.status_code, first.json()["epoch"], first.json()["before"]) == (200, 2, 1)
    assert api.bus.calls[-1][2].actor == "the-admin"  # type: ignore[attr-defined] # AdvanceEpoch
    assert (await api.post("/api/epoch", json={"to": 9})).json()["epoch"] == 9
    assert problem(await api.post("/api/epoch", json={"to": 9}), 422, "invalid-input")["errors"][0]["field"] == "to"
    for wrong in ({"to": 1}, {"to": "3"}, {"to": 10**30}, {"epoch": 3}):
        problem(await api.post("/api/epoch", json=wrong), 422, "invalid-input")


async def test_the_versions_of_a_policy_are_read_by_page(api: Client) -> None:
    for priority in (1, 2, 3):
        await api.put("/api/policies/mesh", json=MESH | {"priority": priority})
    first = (await api.role(Role.VIEWER).get("/api/policies/mesh/history?limit=2")).json()
    assert [it["version"] for it in first["versions"]] == [3, 2]
    rest = (await api.get(f"/api/policies/mesh/history?before={first['next_before']}")).json()
    assert [(it["version"], it["action"]) for it in rest["versions"]] == [(1, "created")]
    problem(await api.get("/api/policies/mesh/history?before=-1"), 422, "invalid-input")
    problem(await api.get(f"/api/policies/mesh/history?before={2**63}"), 422, "invalid-input")
    problem(await api.get("/api/policies/nothing/history?limit=101"), 422, "invalid-input")
