"""The tunnels view with many tunnels: sorting by each column, each term of the query field, CSV of hostile cells."""

import csv
import io
import json
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from warren_testkit.browser.demo import Demo

expect = pytest.importorskip("playwright.sync_api").expect

pytestmark = pytest.mark.browser

WORST_FIRST = ("error", "down", "connecting", "degraded", "unknown", "standby", "up")
PAGE = 500
HOSTILE = (
    '=HYPERLINK("http://127.0.0.1/","x")',
    "+1+1",
    "-2+3",
    "@SUM(1)",
    "\t=1",
    " =1",
    "\uff1d1",
    'a";=1',
    "a,\n@b",
    "a;-1",
)


def tunnel(number: int, now: datetime) -> dict[str, Any]:
    """One of many tunnels: each column has its own order, with repeated values."""
    state = WORST_FIRST[number % 7]
    peers = [f"branch-{number:05}", f"hub-{number % 3}"]
    reason = {"reason": ("peer-unreachable", "narrowed")[number % 2]} if number % 5 == 0 else {}
    end = {
        "name": f"t-{(number * 7) % 40:02}", "state": state, "policy": f"p-{(number * 3) % 4}", **reason,
        "since": (now - timedelta(minutes=(number * 11) % 40)).isoformat(),
        "traffic": {"bytes_in": (number * 13) % 17 * 1_000, "bytes_out": (number * 5) % 19 * 1_000},
        "link": {"kind": "ipsec", "children": [{"cipher": ("aes128", "aes256", "chacha20")[(number * 2) % 3]}]},
    }  # fmt: skip
    reported = (now - timedelta(seconds=(number * 17) % 20)).isoformat()
    return {
        "name": end["name"], "state": state, "peers": peers, "ends": {peers[0]: end}, "stale": [],
        "disagreement": f"{peers[0]}: up, {peers[1]}: down" if number % 8 == 0 else "", "unconfirmed": [],
        "reported_at": {peers[0]: reported},
    }  # fmt: skip


def serve(page: Any, tunnels: list[dict[str, Any]]) -> None:
    """Have the page see these tunnels, by the live stream and by the listing, and the demo's gateways with their tags."""
    named = {it["name"]: it for it in tunnels}

    def listing(route: Any) -> None:
        after = parse_qs(urlsplit(route.request.url).query).get("after", [""])[0]
        names = sorted(name for name in named if name > after)
        shown = names[:PAGE]
        more = shown[-1] if len(names) > PAGE else None
        route.fulfill(json={"tunnels": [named[name] for name in shown], "next_after": more})

    def live(socket: Any) -> None:
        server = socket.connect_to_server()

        def message(text: str) -> None:
            content = json.loads(text)
            if content["kind"] not in ("snapshot", "ready", "alive"):
                return  # changes of the demo's own tunnels
            content.pop("tunnels", None)
            if content["kind"] == "ready":
                rows = [_live(it) for it in tunnels]
                socket.send(json.dumps({"kind": "snapshot", "tunnels": rows}))
            socket.send(json.dumps(content))

        server.on_message(message)

    page.route(re.compile(r"/api/tunnels\?"), listing)
    page.route_web_socket(re.compile(r"/api/live"), live)


def _live(it: dict[str, Any]) -> dict[str, Any]:
    [[peer, end]] = it["ends"].items()
    given = {key: end[key] for key in ("policy", "since", "reason", "detail") if key in end}
    return {
        "name": it["name"], "state": it["state"], "peers": it["peers"], "tags": [], "ends": {peer: end["state"]},
        "reported_at": it["reported_at"][peer], "disagreement": it["disagreement"], **given,
    }  # fmt: skip


def _end(it: dict[str, Any]) -> dict[str, Any]:
    [end] = it["ends"].values()
    found: dict[str, Any] = end
    return found


KEYS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "Tunnel": lambda it: it["name"],
    "State": lambda it: WORST_FIRST.index(it["state"]),
    "Since": lambda it: _end(it)["since"],
    "Reason": lambda it: _end(it).get("reason"),
    "Policy": lambda it: _end(it)["policy"],
    "Cipher": lambda it: _end(it)["link"]["children"][0]["cipher"],
    "In": lambda it: _end(it)["traffic"]["bytes_in"],
    "Out": lambda it: _end(it)["traffic"]["bytes_out"],
    "Reported": lambda it: it["reported_at"][it["peers"][0]],
}


def _expect_rows(page: Any, names: list[str]) -> None:
    """All rows, in their order, are those of these names: the view is as high as the table."""
    page.wait_for_function(
        """(names) => {
            const rows = [...document.querySelectorAll('[data-row]')].sort((a, b) => a.ariaRowIndex - b.ariaRowIndex)
            return JSON.stringify(rows.map((it) => it.dataset.row)) === JSON.stringify(names)
        }""",
        arg=names,
    )


def _expect_query(page: Any, name: str, value: str) -> None:
    """The address has this value of a parameter."""
    page.wait_for_url(lambda url: parse_qs(urlsplit(url).query).get(name) == [value], wait_until="commit")


def _sorted(tunnels: list[dict[str, Any]], column: str, *, descending: bool) -> list[str]:
    """Rows without a value come last in either direction; equal ones are in the order of their names."""
    key = KEYS[column]
    by_name = sorted(tunnels, key=lambda it: it["name"])
    found = sorted((it for it in by_name if key(it) is not None), key=key, reverse=descending)
    return [it["name"] for it in (*found, *(it for it in by_name if key(it) is None))]


def test_each_column_sorts_in_both_directions(demo: Demo, page: Any) -> None:
    now = datetime.now(UTC)
    tunnels = [tunnel(number, now) for number in range(40)]
    serve(page, tunnels)
    page.set_viewport_size({"width": 1280, "height": 3_000})
    page.goto(f"{demo.url}/tunnels?sort=name")
    expect(page.locator("[data-row]")).to_have_count(40)
    expect(page.locator("[data-row=t-00]")).to_contain_text("aes")  # the listing has arrived, too
    for column in KEYS:
        header = page.get_by_role("columnheader", name=column, exact=True)
        if header.get_attribute("aria-sort") != "ascending":
            header.get_by_role("button").click()
        for direction in ("ascending", "descending"):
            expect(header).to_have_attribute("aria-sort", direction)
            wanted = _sorted(tunnels, column, descending=direction == "descending")
            _expect_rows(page, wanted)
            header.get_by_role("button").click()
        assert page.locator("[aria-sort=ascending], [aria-sort=descending]").count() == 1
    header.get_by_role("button").click()  # descending again
    _expect_query(page, "sort", "-seen")
    page.reload()
    expect(page.locator("[data-row=t-00]")).to_contain_text("aes")
    _expect_rows(page, wanted)


TERMS: dict[str, Callable[[dict[str, Any]], bool]] = {
    "state:down": lambda it: it["state"] == "down",
    "state:down,error": lambda it: it["state"] in ("down", "error"),
    "-state:up": lambda it: it["state"] != "up",
    "policy:p-1 state:up": lambda it: _end(it)["policy"] == "p-1" and it["state"] == "up",
    "-policy:p-1": lambda it: _end(it)["policy"] != "p-1",
    "policy:P-*": lambda it: True,
    "reason:narrowed": lambda it: _end(it).get("reason") == "narrowed",
    "peer:branch-00007": lambda it: "branch-00007" in it["peers"],
    "peer:hub-*": lambda it: True,
    "name:t-1*": lambda it: it["name"].startswith("t-1"),
    "t-3": lambda it: "t-3" in it["name"],
    "is:disagreeing": lambda it: bool(it["disagreement"]),
    "is:stale": lambda it: False,
    "tag:nosuch": lambda it: False,
    "name:t-[1]": lambda it: False,
    '"t-01"': lambda it: False,  # quotes are characters as others
    "stat:up": lambda it: True,  # what cannot be read filters nothing, and is named
    "state:": lambda it: True,
    "state:upp": lambda it: True,
    "age:1": lambda it: True,
    "-": lambda it: True,
}
BROKEN = ("stat:up", "state:", "state:upp", "age:1", "-")


def test_each_term_of_the_query_field_filters_and_is_in_the_address_bar(demo: Demo, page: Any) -> None:
    now = datetime.now(UTC) - timedelta(seconds=30)  # ages are not close to a limit
    tunnels = [tunnel(number, now) for number in range(40)]
    serve(page, tunnels)
    page.set_viewport_size({"width": 1280, "height": 3_000})
    page.goto(f"{demo.url}/tunnels?sort=name")
    expect(page.locator("[data-row]")).to_have_count(40)
    field, errors = page.get_by_label("Filter tunnels"), page.locator("#query-errors")
    old = {it["name"]: (now - datetime.fromisoformat(_end(it)["since"])) >= timedelta(minutes=20) for it in tunnels}
    terms = TERMS | {"age:>20m": lambda it: old[it["name"]], "-age:>20m": lambda it: not old[it["name"]]}
    for text, holds in terms.items():
        wanted = sorted(it["name"] for it in tunnels if holds(it))
        field.fill(text)
        _expect_query(page, "q", text)
        _expect_rows(page, wanted)
        expect(errors).to_have_text(re.compile(f"^{re.escape(text)}: .") if text in BROKEN else "")
        expect(field).to_have_attribute("aria-invalid", str(text in BROKEN).lower())
    field.fill('state:down,error -policy:p-1 age:>1m "&#%+')
    _expect_query(page, "q", 'state:down,error -policy:p-1 age:>1m "&#%+')
    shown = page.url
    page.goto(f"{demo.url}/peers")
    page.goto(shown)
    expect(page.get_by_label("Filter tunnels")).to_have_value('state:down,error -policy:p-1 age:>1m "&#%+')


def test_csv_of_10000_hostile_tunnels_is_no_formula_anywhere(demo: Demo, page: Any) -> None:
    now = datetime.now(UTC)
    tunnels = []
    for number in range(10_000):
        text = HOSTILE[number % len(HOSTILE)]
        entry = tunnel(number, now) | {"name": f"{text}{number:05}"}
        [peer], [end] = entry["ends"], entry["ends"].values()
        end |= {"name": entry["name"], "policy": text, "reason": "narrowed", "detail": text}
        end["link"]["children"][0]["cipher"] = text
        entry |= {"peers": [text, "hub"], "ends": {text: end}, "reported_at": {text: entry["reported_at"][peer]}}
        tunnels.append(entry)
    serve(page, tunnels)
    last = sorted(it["name"] for it in tunnels)[-PAGE - 1]
    with page.expect_response(lambda it: parse_qs(urlsplit(it.url).query).get("after") == [last]):
        page.goto(f"{demo.url}/tunnels")  # ciphers come with the listing
    expect(page.get_by_text("10,000 tunnels")).to_be_visible()
    with page.expect_download() as started:
        page.get_by_role("button", name="CSV").click()
    written = started.value.path().read_bytes().decode()
    header, *lines = csv.reader(io.StringIO(written, newline=""))
    assert len(lines) == 10_000
    assert {len(line) for line in lines} == {len(header)}
    # What a spreadsheet computes: at the begin of a cell, and behind what is the end of one where the comma is the decimal separator.
    formula = re.compile(r"(^|[;\t\r\n])\s*[=+\-@\uff1d]")
    assert [cell for line in lines for cell in line if formula.search(cell)] == []
    names = {line[0].replace("'", "") for line in lines}
    assert names == {it["name"].replace("'", "") for it in tunnels}
