"""Sessions of browsers: sign-in by token and by code, the cookie, the origin, and every way in which a session ends."""

import logging
from collections.abc import AsyncIterator
from http.cookies import SimpleCookie
from typing import Any

import httpx
import pytest

from warren_api.auth import CACHE_SECONDS
from warren_api.sessions.credential import Credential, Method
from warren_api.sessions.store import CODE_SECONDS, MAX_CODES, MAX_OF_PRINCIPAL, SessionStore
from warren_contracts.commands import Role
from warren_testkit.api import TOKENS, FakeBus
from warren_testkit.api.application import build_test_app
from warren_testkit.api.client import MESH, problem

ORIGIN = {"origin": "https://api"}
CREDENTIAL = Credential(Method.TOKEN, "0" * 64)


class Browser(httpx.AsyncClient):
    """A browser at the API by HTTPS, and the clock of its sessions."""

    def __init__(self, bus: FakeBus, base_url: str = "https://api") -> None:
        self.now = 1_000.0
        self.bus = bus
        self.app = build_test_app(bus, sessions=SessionStore(43_200, 3_600, lambda: self.now))
        super().__init__(transport=httpx.ASGITransport(app=self.app), base_url=base_url)

    async def sign_in(self, role: Role = Role.ADMIN) -> httpx.Response:
        return await self.post("/api/session", json={"token": TOKENS[role]}, headers=ORIGIN)


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    async with Browser(FakeBus()) as client:
        yield client


def bearer(role: Role) -> dict[str, str]:
    return {"authorization": f"Bearer {TOKENS[role]}"}


async def test_a_browser_signs_in_by_token_reads_changes_and_signs_out(browser: Browser) -> None:
    problem(await browser.get("/api/policies"), 401, "unauthorized")
    signed_in = await browser.sign_in(Role.OPERATOR)
    assert signed_in.status_code == 201
    assert signed_in.json()["role"] == "operator"
    assert (await browser.get("/api/session")).json()["name"] == "the-operator"
    assert (await browser.post("/api/policies", json=MESH, headers=ORIGIN)).status_code == 201
    problem(await browser.post("/api/join-tokens", json={}, headers=ORIGIN), 403, "forbidden")
    assert (await browser.delete("/api/session", headers=ORIGIN)).json() == {"signed_out": True}
    assert not browser.cookies
    problem(await browser.get("/api/session"), 401, "unauthorized")


async def test_the_cookie_is_for_this_host_by_https_and_for_no_script(browser: Browser) -> None:
    signed_in = await browser.sign_in()
    [cookie] = SimpleCookie(signed_in.headers["set-cookie"]).values()
    assert cookie.key == "__Host-warren"
    assert (cookie["path"], cookie["domain"], cookie["samesite"].lower()) == ("/", "", "strict")
    assert cookie["secure"]
    assert cookie["httponly"]
    assert int(cookie["max-age"]) <= 43_200
    assert TOKENS[Role.ADMIN] not in signed_in.text + str(signed_in.headers)


async def test_without_https_the_cookie_has_no_prefix_that_a_browser_would_refuse() -> None:
    async with Browser(FakeBus(), "http://api") as plain:
        body = {"token": TOKENS[Role.VIEWER]}
        signed_in = await plain.post("/api/session", json=body, headers={"origin": "http://api"})
        assert signed_in.headers["set-cookie"].startswith("warren=")
        assert (await plain.get("/api/peers")).status_code == 200


@pytest.mark.parametrize("origin", [None, "https://evil.example", "http://api", "https://api.evil.example", "null"])
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
async def test_a_change_with_a_session_from_another_origin_is_refused(
    browser: Browser, method: str, origin: str | None
) -> None:
    await browser.sign_in()
    headers = {} if origin is None else {"origin": origin}
    path = "/api/policies" if method == "POST" else "/api/policies/mesh"
    body: Any = MESH if method != "DELETE" else None
    problem(await browser.request(method, path, json=body, headers=headers), 403, "foreign-origin")
    assert browser.bus.policies == {}
    assert (await browser.get("/api/policies", headers=headers)).status_code == 200


async def test_no_other_site_signs_a_browser_in_or_out(browser: Browser) -> None:
    body = {"token": TOKENS[Role.ADMIN]}
    evil = {"origin": "https://evil.example"}
    problem(await browser.post("/api/session", json=body, headers=evil), 403, "foreign-origin")
    assert not browser.cookies
    await browser.sign_in()
    problem(await browser.delete("/api/session", headers=evil), 403, "foreign-origin")
    assert (await browser.get("/api/session")).status_code == 200


async def test_a_bearer_token_needs_no_origin_and_comes_before_a_cookie(browser: Browser) -> None:
    await browser.sign_in(Role.ADMIN)
    assert (await browser.post("/api/policies", json=MESH, headers=bearer(Role.OPERATOR))).status_code == 201
    problem(await browser.post("/api/epoch", json={}, headers=bearer(Role.OPERATOR)), 403, "forbidden")
    problem(await browser.get("/api/peers", headers={"authorization": "Bearer wrong"}), 401, "unauthorized")
    assert (await browser.get("/api/peers")).status_code == 200  # the wrong header has not ended the session


async def test_a_session_ends_when_its_token_is_removed(browser: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    await browser.sign_in(Role.VIEWER)
    browser.bus.tokens.clear()
    clock = browser.app.state.parts.authenticator
    now = clock._clock()
    monkeypatch.setattr(clock, "_clock", lambda: now + CACHE_SECONDS)
    problem(await browser.get("/api/peers"), 401, "unauthorized")
    browser.bus.tokens |= FakeBus().tokens
    problem(await browser.get("/api/peers"), 401, "unauthorized")  # it has ended, and does not return


async def test_a_session_survives_the_registry_being_unavailable(
    browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    await browser.sign_in(Role.VIEWER)
    clock = browser.app.state.parts.authenticator
    now = clock._clock()
    monkeypatch.setattr(clock, "_clock", lambda: now + CACHE_SECONDS)
    browser.bus.unavailable = {"registry"}
    problem(await browser.get("/api/policies"), 503, "unavailable")
    browser.bus.unavailable = set()
    assert (await browser.get("/api/policies")).status_code == 200


async def test_a_session_ends_after_its_time_and_after_an_hour_without_a_request(browser: Browser) -> None:
    await browser.sign_in()
    for _ in range(11):
        browser.now += 3_599
        assert (await browser.get("/api/peers")).status_code == 200
    browser.now += 3_612
    problem(await browser.get("/api/peers"), 401, "unauthorized")
    await browser.sign_in()
    browser.now += 3_600
    problem(await browser.get("/api/peers"), 401, "unauthorized")


async def test_signing_in_again_ends_the_session_before(browser: Browser) -> None:
    await browser.sign_in(Role.ADMIN)
    first = dict(browser.cookies)
    await browser.sign_in(Role.VIEWER)
    browser.cookies.clear()
    browser.cookies.update(first)
    problem(await browser.get("/api/peers"), 401, "unauthorized")


async def test_a_code_opens_one_session_with_the_role_of_its_token(browser: Browser) -> None:
    made = (await browser.post("/api/session/codes", headers=bearer(Role.OPERATOR))).json()
    assert made["path"] == f"/sign-in#code={made['code']}"
    assert TOKENS[Role.OPERATOR] not in str(made)
    opened = await browser.post("/api/session", json={"code": made["code"]}, headers=ORIGIN)
    assert (opened.status_code, opened.json()["role"]) == (201, "operator")
    again = await browser.post("/api/session", json={"code": made["code"]}, headers=ORIGIN)
    assert "warren sign-in" in problem(again, 401, "unauthorized")["detail"]
    assert (await browser.get("/api/peers")).status_code == 200  # the browser that opened it opened it twice


async def test_a_link_that_is_used_by_two_browsers_leaves_neither_of_them_a_session(
    browser: Browser, capsys: pytest.CaptureFixture[str]
) -> None:
    code = (await browser.post("/api/session/codes", headers=bearer(Role.ADMIN))).json()["code"]
    opened = await browser.post("/api/session", json={"code": code}, headers=ORIGIN)
    assert opened.status_code == 201
    first = dict(browser.cookies)
    browser.now += 2 * CODE_SECONDS
    for _ in range(2):
        browser.cookies.clear()
        second = await browser.post("/api/session", json={"code": code}, headers=ORIGIN)
        detail = problem(second, 401, "unauthorized")["detail"]
        assert not browser.cookies
        browser.cookies.update(first)
        problem(await browser.get("/api/peers"), 401, "unauthorized")
        first["__Host-warren"] = "of-nobody"
    assert "used already or is older" in detail  # the third browser: nothing is left to end
    output = capsys.readouterr()
    assert "session.code_used_twice" in output.out + output.err


async def test_a_session_does_not_outlive_the_one_whose_code_opened_it(browser: Browser) -> None:
    """Else a stolen cookie would give sessions without an end."""
    await browser.sign_in(Role.OPERATOR)
    for _ in range(3):  # 40,000 of 43,200 seconds, each session in use
        for _ in range(4):
            browser.now += 3_333
            assert (await browser.get("/api/peers")).status_code == 200
        code = (await browser.post("/api/session/codes", headers=ORIGIN)).json()["code"]
        assert (await browser.post("/api/session", json={"code": code}, headers=ORIGIN)).status_code == 201
    browser.now += 3_300
    problem(await browser.get("/api/peers"), 401, "unauthorized")


async def test_a_code_expires_and_a_session_may_make_one_for_another_browser(browser: Browser) -> None:
    await browser.sign_in(Role.VIEWER)
    problem(await browser.post("/api/session/codes"), 403, "foreign-origin")
    made = (await browser.post("/api/session/codes", headers=ORIGIN)).json()
    browser.now += CODE_SECONDS
    problem(await browser.post("/api/session", json={"code": made["code"]}, headers=ORIGIN), 401, "unauthorized")


@pytest.mark.parametrize(
    "body", [{}, {"token": "a", "code": "b"}, {"token": ""}, {"token": "x" * 513}, {"code": 1}, {"user": "root"}, []]
)
async def test_malformed_sign_ins_are_refused_without_a_call(browser: Browser, body: Any) -> None:
    problem(await browser.post("/api/session", json=body, headers=ORIGIN), 422, "invalid-input")
    assert browser.bus.calls == []


async def test_a_sign_in_has_a_small_body_and_wrong_tokens_are_limited(browser: Browser) -> None:
    problem(await browser.post("/api/session", json={"token": "x" * 5_000}, headers=ORIGIN), 413, "body-too-large")
    statuses: list[int] = []
    while 429 not in statuses and len(statuses) < 500:  # one more is allowed for each second that this takes
        wrong = {"token": f"wrong-{len(statuses)}"}
        statuses.append((await browser.post("/api/session", json=wrong, headers=ORIGIN)).status_code)
    assert (statuses[0], statuses[-1]) == (401, 429)


@pytest.mark.parametrize("cookie", ["", "x", "x" * 4_000, "ä", "' OR 1=1"])
async def test_foreign_cookies_are_no_session(browser: Browser, cookie: str) -> None:
    headers = {"cookie": f"__Host-warren={cookie}".encode()}
    problem(await browser.get("/api/peers", headers=headers), 401, "unauthorized")  # type: ignore[arg-type] # bytes are fine


async def test_neither_token_nor_code_nor_session_is_logged(
    browser: Browser, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    await browser.sign_in()
    code = (await browser.post("/api/session/codes", headers=ORIGIN)).json()["code"]
    await browser.post("/api/session", json={"code": code}, headers=ORIGIN)
    output = capsys.readouterr()
    logged = caplog.text + output.out + output.err
    assert "session.opened" in logged
    for secret in (TOKENS[Role.ADMIN], code, *browser.cookies.values()):
        assert secret not in logged
    assert CREDENTIAL.subject not in repr(CREDENTIAL)


def test_sessions_and_codes_are_limited_the_oldest_gives_way() -> None:
    now = [0.0]
    store = SessionStore(100.0, 50.0, lambda: now[0])
    secrets = [store.open(CREDENTIAL, "ann") for _ in range(MAX_OF_PRINCIPAL)]
    bob = store.open(CREDENTIAL, "bob")
    assert store.find(secrets[0]) is not None  # used: no longer the oldest
    store.open(CREDENTIAL, "ann")
    assert store.find(secrets[1]) is None
    assert store.find(secrets[0]) is not None
    assert store.find(bob) is not None
    codes = [store.issue_code(CREDENTIAL) for _ in range(MAX_CODES + 1)]
    assert store.redeem(codes[0]) is None
    assert (grant := store.redeem(codes[1])) is not None
    assert grant.credential == CREDENTIAL
    assert store.redeem(codes[1]) is None
