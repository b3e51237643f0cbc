"""A token with a scope on a real `warren up` with gateways of two customers: replies and streams name one of them only."""

import json
import re
import ssl
import threading
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from warren_lab.process import wait_until
from warren_testkit.bus.plain_client import plain_client
from warren_testkit.up import running_up, stack_folder
from warren_testkit.up_fleet import LIMIT_SECONDS, UpFleet
from warren_testkit.waiting import eventually

OURS, THEIRS = "alfa-1", "bravo-1"
FOREIGN = re.compile(r"bravo|10\\.77|192\\.0\\.2\\.98")
"""The other customer: gateways, tags, networks, and the endpoint that it announces."""
STREAMS = ("/api/live", "/api/events")


class Customers(UpFleet):
    """A hub and a gateway of each customer, and a token for the gateways of one."""

    def client(self, token: Path) -> httpx.Client:
        headers = {"authorization": f"Bearer {token.read_text().strip()}"}
        trust = ssl.create_default_context(cafile=self.up.info["ca_file"])
        return httpx.Client(base_url=self.up.info["url"], headers=headers, verify=trust, timeout=90, trust_env=False)


@pytest.fixture(scope="module")
def fleet() -> Iterator[Customers]:
    with stack_folder() as folder, running_up(folder / "data") as up:
        fleet = Customers(up, folder)
        joins = {}
        for tag in ("hub", "customer-alfa", "customer-bravo"):
            joins[tag] = folder / f"{tag}.join"
            fleet.warren("token", "create", "--tag", tag, "--out", str(joins[tag]))
        with (
            fleet.gateway("hub", "10.1.0.0/24", joins["hub"]),
            fleet.gateway(OURS, "10.66.0.0/24", joins["customer-alfa"]),
            fleet.gateway(THEIRS, "10.77.0.0/24", joins["customer-bravo"]),
        ):
            policy = folder / "branches.json"
            topology = {
                "kind": "hub-spoke",
                "hubs": ["peer=hub"],
                "spokes": ["tag=customer-alfa", "tag=customer-bravo"],
            }
            policy.write_text(json.dumps({"id": "branches", "description": "for bravo, too", "topology": topology}))
            fleet.warren("policy", "apply", str(policy))
            wait_until(lambda: len(tunnels(fleet)) == 2, "both tunnels are reported", LIMIT_SECONDS)
            yield fleet


def tunnels(fleet: UpFleet, token: Path | None = None) -> list[str]:
    return [it["name"] for it in json.loads(fleet.warren("tunnels", "--json", token=token))]


def recorded_at(fleet: Customers) -> str:
    """A moment at which the history has both tunnels and all gateways."""
    found = ""

    def is_recorded() -> bool:
        nonlocal found
        found = datetime.now(UTC).isoformat()
        observed = api.get("/api/fleet", params={"at": found}).json()["observed"]
        return (len(observed["tunnels"]), observed["gateways"]) == (2, {"online": 3})

    with fleet.client(Path(fleet.up.info["token_file"])) as api:
        wait_until(is_recorded, "the history has the fleet", LIMIT_SECONDS)
    return found


def every_path(api: httpx.Client) -> Iterator[str]:
    """Every path of the API that can be read, with the names of both customers, and one that does not exist."""
    names = {
        "{peer_id}": (OURS, THEIRS, "hub", "nosuch"), "{policy_id}": ("branches", "nosuch"), "{token_id}": ("a" * 16,),
        "{name}": (f"{OURS}+hub", f"{THEIRS}+hub", "nosuch"),
    }  # fmt: skip
    document = api.get("/api/openapi.json").json()
    for path, operations in document["paths"].items():
        if "get" not in operations or path in STREAMS:
            continue
        field = next(iter(re.findall(r"{\w+}", path)), "")
        for name in names.get(field, ("",)):
            yield path.replace(field, name) if field else path


def test_no_reply_and_no_stream_names_the_other_customer(fleet: Customers) -> None:
    viewer = fleet.token("alfa", "admin", "--tag", "customer-alfa")
    at = {"at": recorded_at(fleet)}
    found = {}
    with fleet.client(viewer) as api:
        for path in every_path(api):
            answer = api.get(path, params=at if path == "/api/fleet" else {})
            text = (
                answer.text.replace(THEIRS, "") if THEIRS in path else answer.text
            )  # a refusal names what was asked for
            assert not FOREIGN.search(text), (path, answer.text)
            found[path] = answer
        assert found["/api/peers"].json()["peers"][0]["peer"] == OURS
        assert [it["name"] for it in found["/api/tunnels"].json()["tunnels"]] == [f"{OURS}+hub"]
        assert found["/api/fleet"].json()["observed"]["gateways"] == {"online": 1}
        assert [it["name"] for it in found["/api/fleet"].json()["observed"]["tunnels"]] == [f"{OURS}+hub"]
        assert found[f"/api/tunnels/{OURS}+hub/history"].json()["entries"]
        for part in ("", "/history", "/counters", "/explanation"):
            ours, theirs, none = (
                found[f"/api/tunnels/{it}{part}"] for it in (f"{OURS}+hub", f"{THEIRS}+hub", "nosuch")
            )
            assert (ours.status_code, theirs.status_code, none.status_code) == (200, 404, 404)
            assert theirs.json()["detail"].replace(f"{THEIRS}+hub", "nosuch") == none.json()["detail"]
        theirs, none = found[f"/api/peers/{THEIRS}"], found["/api/peers/nosuch"]
        assert theirs.json()["detail"].replace(THEIRS, "nosuch") == none.json()["detail"]
    assert tunnels(fleet, viewer) == [f"{OURS}+hub"]
    status = json.loads(fleet.warren("status", "--json", token=viewer, code=3))
    assert (status["scope"], sum(status["tunnels"].values())) == (["customer-alfa"], 1)


class Follower(threading.Thread):
    """Reads a stream until it is closed."""

    def __init__(self, fleet: Customers, token: Path, path: str) -> None:
        super().__init__(daemon=True)
        self._fleet, self._token, self._path = fleet, token, path
        self.text = ""
        self.opened = threading.Event()

    def run(self) -> None:
        ended = suppress(httpx.HTTPError)  # the control plane is stopped
        with ended, self._fleet.client(self._token) as api, api.stream("GET", self._path) as answer:
            for part in answer.iter_text():
                self.text += part
                if "event: ready" in self.text or ": connected" in self.text:
                    self.opened.set()
                if "last-one" in self.text:
                    return


def has(follower: Follower, text: str) -> bool:
    return text in follower.text


def test_streams_follow_a_gateway_that_changes_hands(fleet: Customers) -> None:
    """The other customer's gateway comes to the scope while streams are open, and leaves it again."""
    token = fleet.token("alfa-streams", "viewer", "--tag", "customer-alfa")
    followers = [
        Follower(fleet, token, path) for path in ("/api/live", "/api/events?after=0", "/api/events?kind=tunnel&after=0")
    ]
    for it in followers:
        it.start()
        assert it.opened.wait(LIMIT_SECONDS)
    live, events, _ = followers
    fleet.warren("peers", "retag", "hub", "hub", "x", "--yes")  # of somebody else
    fleet.warren("peers", "retag", OURS, "customer-alfa", "first-one", "--yes")
    for it in (live, events):
        wait_until(partial(has, it, "first-one"), "the own change arrives", LIMIT_SECONDS)
    for it in followers:
        assert not FOREIGN.search(it.text), it.text
    fleet.warren("peers", "retag", THEIRS, "customer-alfa", "--yes")
    wait_until(lambda: f'"name":"{THEIRS}+hub"' in live.text, "its tunnel appears", LIMIT_SECONDS)
    wait_until(lambda: THEIRS in events.text, "its event appears", LIMIT_SECONDS)
    wait_until(lambda: tunnels(fleet, token) == [f"{OURS}+hub", f"{THEIRS}+hub"], "it is listed", LIMIT_SECONDS)
    with fleet.client(token) as api:
        history = api.get(f"/api/tunnels/{THEIRS}+hub/history").json()
        since = history["begins"]
        assert all(it["at"] >= since for it in history["entries"])
        past = api.get("/api/fleet", params={"at": before(fleet, THEIRS)}).json()["observed"]
        assert past["begins"] <= past["at"] < since
        assert THEIRS not in json.dumps(past)
    fleet.warren("peers", "retag", THEIRS, "customer-bravo", "--yes")
    wait_until(lambda: f'"tunnels_gone":["{THEIRS}+hub"]' in live.text, "its tunnel disappears", LIMIT_SECONDS)
    wait_until(lambda: tunnels(fleet, token) == [f"{OURS}+hub"], "it is not listed any more", LIMIT_SECONDS)
    assert "customer-bravo" not in live.text + events.text
    fleet.warren("peers", "retag", OURS, "customer-alfa", "last-one", "--yes")
    for it in (live, events):
        it.join(LIMIT_SECONDS)
        assert not it.is_alive()


def before(fleet: UpFleet, peer: str) -> str:
    """A moment at which the fleet was known, and this gateway not yet part of the scope: when its tunnel was first reported."""
    entries = json.loads(fleet.warren("tunnels", "history", f"{peer}+hub", "--json"))["entries"]
    return str(min(it["at"] for it in entries if it["kind"] == "state"))


def test_orders_reach_ends_of_the_scope_only(fleet: Customers) -> None:
    token = fleet.token("alfa-orders", "operator", "--tag", "customer-alfa")
    with fleet.client(token) as api:
        for order in ("rekey", "restart"):
            theirs = api.post(f"/api/tunnels/{THEIRS}+hub/{order}")
            none = api.post(f"/api/tunnels/nosuch/{order}")
            assert theirs.status_code == none.status_code == 404
            assert theirs.json()["detail"].replace(f"{THEIRS}+hub", "nosuch") == none.json()["detail"]
            assert api.post(f"/api/tunnels/{OURS}+hub/{order}?peer=hub").status_code == 403
        ordered = api.post(f"/api/tunnels/{OURS}+hub/restart")
        assert (ordered.status_code, ordered.json()["peer"]) == (202, OURS)
        made = api.post("/api/operator-tokens", json={"name": "wider", "role": "viewer"})
        assert made.status_code == 403
    auditor = fleet.token("alfa-auditor", "admin", "--tag", "customer-alfa")
    audit: dict[str, Any] = {}
    with fleet.client(auditor) as api:
        audit = api.get("/api/audit").json()
        assert api.post("/api/operator-tokens", json={"name": "wider", "role": "viewer"}).status_code == 403
    assert ("restart_tunnel", f"{OURS}+hub") in {(it["action"], it["subject"]) for it in audit["entries"]}
    assert not FOREIGN.search(json.dumps(audit))


async def test_the_bus_refuses_the_token(fleet: Customers) -> None:
    tokens = [fleet.token("alfa-bus", "admin", "--tag", "customer-alfa"), fleet.token("whole-bus", "admin")]
    context = ssl.create_default_context(cafile=fleet.up.info["ca_file"])

    async def connects(token: Path) -> bool:
        client = await plain_client(
            fleet.up.info["nats_url"], token=token.read_text().strip(), tls=context, tls_handshake_first=True,
            allow_reconnect=False, max_reconnect_attempts=0, inbox_prefix=f"_INBOX.op.{token.stem}",
        )  # fmt: skip
        if client is not None:
            await client.close()
        return client is not None

    await eventually(partial(connects, tokens[1]), LIMIT_SECONDS)
    assert not await connects(tokens[0])
