"""The REST endpoints on a fake bus: what they ask of it, what they answer, who may, and how they refuse."""

import logging
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from warren_contracts.commands import Role
from warren_contracts.problems import CONTENT_TYPE, Unauthorised
from warren_contracts.status import TunnelState
from warren_gateway.app import build_app
from warren_gateway.middleware import MAX_BODY, MAX_POLICIES
from warren_gateway.testing import TOKENS, FakeBus

MESH = {"id": "mesh", "topology": {"kind": "mesh", "members": ["tag=branch"]}}


class Client(httpx.AsyncClient):
    """A client with a role; `bus` is what stands behind."""

    def __init__(self, bus: FakeBus) -> None:
        super().__init__(transport=httpx.ASGITransport(app=build_app(bus)), base_url="http://gateway")
        self.bus = bus
        self.role(Role.ADMIN)

    def role(self, role: Role) -> "Client":
        self.headers["authorization"] = f"Bearer {TOKENS[role]}"
        return self


@pytest.fixture
async def api() -> AsyncIterator[Client]:
    async with Client(FakeBus()) as client:
        yield client


def problem(response: httpx.Response, status: int, kind: str) -> dict[str, Any]:
    assert response.headers["content-type"] == CONTENT_TYPE
    body: dict[str, Any] = response.json()
    assert (response.status_code, body["status"], body["type"]) == (status, status, f"urn:warren:problem:{kind}")
    assert body["instance"] == response.headers["trace-id"]
    assert body["detail"]
    return body


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


async def test_a_change_without_an_answer_says_that_it_may_have_happened(api: Client) -> None:
    api.bus.hung = {"policy"}
    said = problem(await api.post("/api/policies", json=MESH), 503, "unavailable")["detail"]
    assert said == (
        "the policy service does not answer (within 20 s); it may still be carried out: look with `warren policy list`"
    )
    said = problem(await api.get("/api/policies"), 503, "unavailable")["detail"]
    assert "carried out" not in said


async def test_put_stores_a_policy_that_is_not_there_unless_a_version_is_meant(api: Client) -> None:
    problem(await api.put("/api/policies/mesh", json=MESH, headers={"if-match": "*"}), 404, "not-found")
    assert (await api.put("/api/policies/mesh", json=MESH)).status_code == 201
    assert (await api.put("/api/policies/mesh", json=MESH)).status_code == 200


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


async def test_several_policies_are_one_command_of_the_caller(api: Client) -> None:
    body = {"policies": [MESH, MESH | {"id": "second"}], "dry_run": True}
    answer = await api.role(Role.OPERATOR).post("/api/policies:apply", json=body)
    assert answer.json()["created"] == ["mesh", "second"]
    assert api.bus.policies == {}
    service, verb, command = api.bus.calls[-1]
    assert (service, verb, command.actor) == ("policy", "apply", "the-operator")  # type: ignore[attr-defined] # ApplyPolicies
    await api.post("/api/policies:apply", json=body | {"dry_run": False})
    assert sorted(api.bus.policies) == ["mesh", "second"]


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
    ],
)
async def test_a_wrong_policy_is_refused_by_field_before_the_bus_is_asked(
    api: Client, change: dict[str, Any], field: str
) -> None:
    refused = problem(await api.post("/api/policies:apply", json={"policies": [MESH | change]}), 422, "invalid-input")
    assert [it["field"] for it in refused["errors"]] == [field]
    assert ("policy", "apply") not in [(service, verb) for service, verb, _ in api.bus.calls]


async def test_wrong_json_wrong_paths_and_wrong_methods_are_problems(api: Client) -> None:
    wrong = await api.post("/api/policies", content=b"{", headers={"content-type": "application/json"})
    said = "this is not JSON: line 1, column 2"
    assert problem(wrong, 422, "invalid-input")["errors"] == [{"field": "(whole)", "message": said}]
    problem(await api.get("/api/nothing"), 404, "not-found")
    problem(await api.get("/"), 404, "not-found")
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


async def test_tokens_are_made_by_admins(api: Client) -> None:
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
    problem(await api.get("/api/policies"), 401, "unauthorised")


@pytest.mark.parametrize("authorization", ["", "Bearer wrong", "Basic dXNlcjpwYXNz", "Bearer", f"Bearer {'x' * 600}"])
async def test_without_a_valid_token_nothing_is_told(api: Client, authorization: str) -> None:
    api.headers["authorization"] = authorization
    for path in ("/api/policies", "/api/peers", "/api/tunnels", "/api/events"):
        answer = await api.get(path)
        problem(answer, 401, "unauthorised")
        assert answer.headers["www-authenticate"].startswith("Bearer")


@pytest.mark.parametrize(
    ("method", "path", "body", "least"),
    [
        ("GET", "/api/policies", None, Role.VIEWER),
        ("GET", "/api/policies/mesh", None, Role.VIEWER),
        ("GET", "/api/peers", None, Role.VIEWER),
        ("GET", "/api/peers/gw1", None, Role.VIEWER),
        ("GET", "/api/tunnels", None, Role.VIEWER),
        ("GET", "/api/tunnels/t", None, Role.VIEWER),
        ("POST", "/api/policies", MESH | {"id": "new"}, Role.OPERATOR),
        ("PUT", "/api/policies/mesh", MESH, Role.OPERATOR),
        ("DELETE", "/api/policies/mesh", None, Role.OPERATOR),
        ("POST", "/api/policies:apply", {"policies": [MESH]}, Role.OPERATOR),
        ("POST", "/api/policies:delete", {"ids": ["mesh"]}, Role.OPERATOR),
        ("PUT", "/api/peers/gw1/tags", {"tags": []}, Role.ADMIN),
        ("DELETE", "/api/peers/gw1", None, Role.ADMIN),
        ("POST", "/api/join-tokens", {}, Role.ADMIN),
        ("GET", "/api/join-tokens", None, Role.ADMIN),
        ("GET", "/api/operator-tokens", None, Role.ADMIN),
        ("POST", "/api/operator-tokens", {"name": "n", "role": "viewer"}, Role.ADMIN),
    ],
)
async def test_each_endpoint_wants_its_role(
    api: Client, method: str, path: str, body: dict[str, Any] | None, least: Role
) -> None:
    api.bus.add_peer("gw1")
    api.bus.add_tunnel("t")
    await api.post("/api/policies", json=MESH)
    reached = False
    for role in Role:
        answer = await api.role(role).request(method, path, json=body)
        reached = reached or role is least
        if reached:
            assert answer.status_code < 300, (role, answer.text)
            break
        problem(answer, 403, "forbidden")


async def test_an_answer_of_the_registry_is_remembered_for_seconds_only() -> None:
    from warren_gateway.auth import CACHE_SECONDS, Authenticator

    now, bus = [100.0], FakeBus()
    authenticator = Authenticator(bus, lambda: now[0])
    header = f"Bearer {TOKENS[Role.VIEWER]}"
    for _ in range(3):
        assert (await authenticator.authenticate(header)).role is Role.VIEWER
    assert len(bus.calls) == 1
    assert TOKENS[Role.VIEWER] not in repr(bus.calls)
    bus.away = {"registry"}
    assert (await authenticator.authenticate(header)).role is Role.VIEWER
    now[0] += CACHE_SECONDS
    with pytest.raises(Exception, match="registry"):
        await authenticator.authenticate(header)


async def test_a_service_that_is_away_is_named_and_picked_up_again(api: Client) -> None:
    api.bus.away = {"policy"}
    answer = await api.get("/api/policies")
    assert "policy" in problem(answer, 503, "unavailable")["detail"]
    assert answer.headers["retry-after"] == "1"
    api.bus.away = set()
    assert (await api.get("/api/policies")).status_code == 200


async def test_a_bus_that_is_away_is_named_and_picked_up_again(api: Client) -> None:
    api.bus.is_connected = False
    assert "NATS" in problem(await api.get("/api/policies"), 503, "unavailable")["detail"]
    api.bus.is_connected = True
    assert (await api.get("/api/policies")).status_code == 200


async def test_health_names_every_dependency_without_a_token_and_says_more_with_one(api: Client) -> None:
    open_client = httpx.AsyncClient(transport=api._transport, base_url="http://gateway")
    async with open_client:
        healthy = await open_client.get("/api/health")
        assert (healthy.status_code, healthy.json()["ready"]) == (200, True)
        assert healthy.json()["dependencies"]["policy/postgres"] is True
        assert healthy.json()["detail"] == {}
        assert (await open_client.get("/api/health/live")).json() == {"live": True}
    assert (await api.get("/api/health")).json()["detail"]["policy/postgres"] == "17.2"


@pytest.mark.parametrize("part", ["metrics", "callout"])
async def test_health_is_503_and_names_what_is_away(part: str) -> None:
    bus = FakeBus()
    bus.away = {part}
    async with Client(bus) as api:
        answer = await api.get("/api/health")
        assert (answer.status_code, answer.json()["ready"]) == (503, False)
        assert [name for name, up in answer.json()["dependencies"].items() if not up] == [part]
    bus.is_connected = False
    async with Client(bus) as api:
        away = (await api.get("/api/health")).json()
        assert not any(away["dependencies"].values())
        assert away["live"] is True


async def test_a_part_that_a_silent_service_named_stays_in_the_listing_with_words_for_whoever_was_known() -> None:
    bus = FakeBus()
    async with Client(bus) as api:
        assert (await api.get("/api/health")).json()["dependencies"]["registry/postgres"] is True
        app = api._transport.app  # type: ignore[attr-defined] # ASGITransport
        app.state.parts.health._answer = None
        bus.hung = {"registry"}
        silent = (await api.get("/api/health")).json()
        assert silent["dependencies"]["registry/postgres"] is False
        assert silent["detail"]["registry/postgres"].startswith("unknown: the registry service does not answer")
        api.headers["authorization"] = "Bearer never-seen"
        assert (await api.get("/api/health")).json()["detail"] == {}
        problem(await api.get("/api/policies"), 503, "unavailable")


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b'{"id": "a", "id": "b"}', "the key 'id' stands twice"),
        (b'{"id": "a", "topology": {"kind": "mesh", "kind": "mesh"}}', "the key 'kind' stands twice"),
        (b'{"id": "\xff"}', "this is no UTF-8 text"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"priority": ' + b"9" * 5_000 + b"}", "a number has too many digits"),
        (b'{"priority": NaN}', "NaN is no JSON"),
        (b"{\n  oops\n}", "this is not JSON: line 2, column 3"),
    ],
)
async def test_a_body_that_is_no_plain_json_says_what_is_wrong_with_it(api: Client, body: bytes, said: str) -> None:
    for path in ("/api/policies", "/api/join-tokens"):
        answer = await api.post(path, content=body, headers={"content-type": "application/json"})
        assert said in problem(answer, 422, "invalid-input")["errors"][0]["message"]


async def test_bodies_beyond_the_limit_are_refused_announced_or_not(api: Client) -> None:
    for path, limit in (("/api/join-tokens", MAX_BODY), ("/api/policies", MAX_POLICIES)):
        refused = problem(await api.post(path, content=b" " * (limit + 1)), 413, "body-too-large")
        assert f"{limit:,} bytes" in refused["detail"]

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(10):
            yield b" " * 100_000

    problem(await api.post("/api/join-tokens", content=chunks()), 413, "body-too-large")


async def test_a_body_is_read_of_known_callers_alone(api: Client) -> None:
    api.headers["authorization"] = "Bearer nobody"
    problem(await api.post("/api/policies", content=b"{" * 1_000), 401, "unauthorised")


async def test_policies_that_are_too_much_are_refused_by_the_name_of_their_reader(api: Client) -> None:
    def mesh(number: int, tag: str) -> dict[str, Any]:
        return MESH | {"id": f"p{number}", "description": "x" * 1_000, "topology": {"kind": "mesh", "members": [tag]}}

    one = {"policies": [mesh(number, "tag=branch") for number in range(900)]}
    refused = problem(await api.post("/api/policies:apply", json=one), 422, "policy-set-too-large")
    assert "the set of tag=branch would have more than" in refused["detail"]
    many = {"policies": [mesh(number, f"tag=t{number % 9}") for number in range(900)]}
    refused = problem(await api.post("/api/policies:apply", json=many), 413, "body-too-large")
    assert "apply fewer policies at once" in refused["detail"]
    assert "is for tag=t" in refused["detail"]
    assert api.bus.policies == {}


async def test_every_response_has_security_headers_and_the_trace(api: Client) -> None:
    trace = "0af7651916cd43dd8448eb211c80319c"
    for path in ("/api/policies", "/api/nothing", "/api/health"):
        answer = await api.get(path, headers={"traceparent": f"00-{trace}-b7ad6b7169203331-01"})
        assert answer.headers["trace-id"] == trace
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert len((await api.get("/api/health")).headers["trace-id"]) == 32


async def test_an_unforeseen_error_is_a_bare_500_with_the_trace(api: Client) -> None:
    api.bus.policies["broken"] = None  # type: ignore[assignment] # what no service would answer
    answer = await api.get("/api/policies/broken")
    body = problem(answer, 500, "internal")
    assert "log" in body["detail"]


async def test_no_token_reaches_the_log(api: Client, caplog: pytest.LogCaptureFixture, capsys: Any) -> None:
    caplog.set_level(logging.DEBUG)
    made = (await api.post("/api/join-tokens", json={"note": "x"})).json()["token"]
    await api.get("/api/policies", headers={"authorization": "Bearer planted-secret"})
    output = capsys.readouterr()
    said = caplog.text + output.out + output.err
    assert "http.request" in said
    for secret in (made, TOKENS[Role.ADMIN], "planted-secret"):
        assert secret not in said


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
async def test_a_body_is_not_read_before_the_token_is_known(api: Client, method: str) -> None:
    read = 0

    async def body() -> AsyncIterator[bytes]:
        nonlocal read
        for _ in range(4):
            read += 1
            yield b"[" * 100_000

    headers = {"authorization": "Bearer wrong", "content-type": "application/json"}
    path = "/api/policies" if method == "POST" else "/api/policies/mesh"
    problem(await api.request(method, path, content=body(), headers=headers), 401, "unauthorised")
    assert ("policy", "apply") not in [(service, verb) for service, verb, _ in api.bus.calls]
    assert read == 0
    forbidden = await api.role(Role.VIEWER).request(
        method, path, content=body(), headers={"content-type": "application/json"}
    )
    problem(forbidden, 403, "forbidden")
    assert read == 0


async def test_wrong_tokens_of_one_address_are_soon_asked_about_no_more(api: Client) -> None:
    good = api.headers["authorization"]
    assert (await api.get("/api/policies")).status_code == 200
    statuses = []
    for number in range(30):
        api.headers["authorization"] = f"Bearer wrong-{number}"
        answer = await api.get("/api/policies")
        statuses.append(answer.status_code)
    assert statuses[:20] == [401] * 20
    problem(answer, 429, "too-many-wrong-tokens")
    assert answer.headers["retry-after"] == "1"
    asked = sum(1 for _, verb, _ in api.bus.calls if verb == "authenticate")
    assert asked < 25
    api.headers["authorization"] = good
    assert (await api.get("/api/policies")).status_code == 200


async def test_a_known_token_is_asked_about_beside_wrong_ones_and_the_rest_waits() -> None:
    from warren_gateway.auth import CACHE_SECONDS, Authenticator
    from warren_gateway.errors import TooManyWrongTokens

    now = [100.0]
    authenticator = Authenticator(FakeBus(), lambda: now[0])
    good, late = (f"Bearer {TOKENS[role]}" for role in (Role.VIEWER, Role.ADMIN))
    await authenticator.authenticate(good, "proxy")
    for number in range(20):
        with pytest.raises(Unauthorised):
            await authenticator.authenticate(f"Bearer wrong-{number}", "proxy")
    with pytest.raises(TooManyWrongTokens):
        await authenticator.authenticate(late, "proxy")
    assert (await authenticator.authenticate(late, "elsewhere")).role is Role.ADMIN
    with pytest.raises(TooManyWrongTokens):
        await authenticator.authenticate("Bearer wrong", "proxy")
    now[0] += CACHE_SECONDS
    assert (await authenticator.authenticate(good, "proxy")).role is Role.VIEWER
    with pytest.raises(Unauthorised):
        await authenticator.authenticate("Bearer wrong", "proxy")
