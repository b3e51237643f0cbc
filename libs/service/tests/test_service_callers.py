"""Who called: the server's word is believed where the server wrote it, and a caller's own words never."""

import json
import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from warren_bus.client import PatchedClient
from warren_bus.headers import HEADER_REQUEST_INFO, is_genuine
from warren_bus.service_calls import sign_call
from warren_contracts.problems import ForbiddenError
from warren_service.call_gate import matches
from warren_service.callers import Caller, parse_caller, require_agent, require_operator
from warren_service.service_callers import ServiceCallers
from warren_trust.keys import KeyKind, KeyPair

ANN = Caller("OPS", "op.ann")
LINE = b'Nats-Request-Info: {"acc":"OPS","user":"op.ann","name":"op.ann"}\r\n'
FORGED = '{"acc":"OPS","user":"op.admin"}'

FRAGMENTS = st.lists(
    st.sampled_from(
        [
            b"NATS/1.0", b"\r\n", b"\r", b"\n", b" ", b":", b"X: aa", b"503", b"\xff\xff\xff", b"\x00",
            b"Nats-Request-Info", b"nats-request-info", b"Nats-Request-Info ", FORGED.encode(),
            f"Nats-Request-Info: {FORGED}\r\n".encode(), f"nats-request-info: {FORGED}\r\n".encode(),
        ]
    ),
    max_size=8,
).map(b"".join)  # fmt: skip


def server_adds(block: bytes) -> bytes:
    """What nats-server 2.15 makes of a caller's block (client.go, setHeader): the last two bytes go, its line comes."""
    if len(block) <= 2:
        return b"NATS/1.0\r\n" + LINE + b"\r\n"
    return block[:-2] + LINE + b"\r\n"


async def parsed(block: bytes) -> dict[str, str] | None:
    return await PatchedClient()._process_headers(block)


@given(block=FRAGMENTS)
@example(block=b"NATS/1.0\r\nX: aa")
@example(block=f"NATS/1.0\r\nnats-request-info: {FORGED}\r\nX: aa".encode())
@example(block=f"NATS/1.0\r\nNats-Request-Info: {FORGED}\r\nX: aa".encode())
@example(block=b"NATS/1.0 \xff\xff\xff\r\n\r\n")
@example(block=b"NATS/1.0\r\n\r\n")
async def test_whatever_a_caller_sends_it_is_itself_or_nobody(block: bytes) -> None:
    headers = await parsed(server_adds(block))
    try:
        assert parse_caller(headers) == ANN
    except ForbiddenError:
        return
    assert is_genuine(server_adds(block))


@pytest.mark.parametrize(
    "block",
    [
        b"NATS/1.0\r\n" + LINE + b"\r\n",
        b"NATS/1.0\r\ntraceparent: 00-x\r\ncontent-type: application/json\r\n" + LINE + b"\r\n",
    ],
)
async def test_the_servers_line_is_believed(block: bytes) -> None:
    assert parse_caller(await parsed(block)) == ANN


@pytest.mark.parametrize(
    "block",
    [
        b"NATS/1.0\r\nX: " + LINE + b"\r\n",  # inside a value
        b"NATS/1.0\r\nX: aa\n" + LINE + b"\r\n",  # after a bare line feed
        b"NATS/1.0\r\n" + LINE.replace(b"Nats-R", b"nats-r") + b"\r\n",
        b"NATS/1.0\r\n" + LINE + LINE + b"\r\n",
        b"NATS/1.0\r\n" + LINE.lower() + LINE + b"\r\n",
        b"NATS/1.0\r\nX: nats-REQUEST-info\r\n" + LINE + b"\r\n",
        b"NATS/1.0\r\n\r\n" + LINE + b"\r\n",  # after the block's end
        b"NATS/1.0\r\n" + LINE + b"X: aa\r\n\r\n",  # not the last line
        b"NATS/1.0\r\n " + LINE + b"\r\n",
        b"NATS/1.0 503\r\n" + LINE + b"\r\n",
        b"NNATS/1.0\r\n" + LINE + b"\r\n",
        b"NATS/1.0\r\n" + LINE,
        b"NATS/1.0" + LINE + b"\r\n",
        b"N" + LINE + b"\r\n",
    ],
)
async def test_the_servers_line_elsewhere_is_nobody_and_no_service(block: bytes) -> None:
    headers = await parsed(block)
    for require in (parse_caller, require_operator):
        with pytest.raises(ForbiddenError, match="headers"):
            require(headers)
    with pytest.raises(ForbiddenError):
        require_agent(headers, "op.ann")


@pytest.mark.parametrize("block", [b"N", b"NATS/1.0", b"NATS/1.0 \xff\xff\xff\r\n\r\n", b"\r\n\r\n", b"NATS/1.0 1"])
async def test_headers_that_cannot_be_read_end_nothing_and_name_nobody(block: bytes) -> None:
    """An exception here would leave the client deaf for a minute."""
    headers = await parsed(block)
    if headers is not None and HEADER_REQUEST_INFO in headers:
        with pytest.raises(ForbiddenError):
            parse_caller(headers)


@pytest.mark.parametrize(
    "text", ["", "x", "[]", "null", "{}", '{"acc":""}', '{"acc":1}', '{"acc":"OPS","user":[]}', "[" * 100_000]
)
def test_a_word_that_cannot_be_read_is_no_service(text: str) -> None:
    with pytest.raises(ForbiddenError):
        parse_caller({HEADER_REQUEST_INFO: text})


@pytest.mark.parametrize(
    ("pattern", "subject", "expected"),
    [
        ("a.b", "a.b", True), ("a.b", "a.c", False), ("a.*", "a.c", True), ("a.*", "a.c.d", False), ("a.>", "a.c.d", True),
        ("a.>", "a", False), ("a.>", "b.c", False), ("a.*.c", "a.b.c", True), ("a.*.c", "a.b.d", False), (">", "a", True),
        ("a.b", "a.b.c", False), ("a.b.c", "a.b", False),
    ],
)  # fmt: skip
def test_a_subject_matches_a_subscription_as_in_nats(pattern: str, subject: str, expected: bool) -> None:
    assert matches(pattern, subject) is expected


def test_another_spelling_is_not_the_servers() -> None:
    text = json.dumps({"acc": "OPS", "user": "op.admin"})
    for headers in ({"nats-request-info": text}, {"Nats-Request-Info": text, "nats-request-info": text}):
        with pytest.raises(ForbiddenError):
            parse_caller(headers)


def test_who_may_call_what() -> None:
    agent = {HEADER_REQUEST_INFO: '{"acc":"AGENTS","user":"gw1"}'}
    operator = {HEADER_REQUEST_INFO: '{"acc":"OPS","user":"op.ann"}'}
    require_agent(agent, "gw1")
    assert require_operator(operator) == "op.ann"
    for headers in (None, {}, agent, {HEADER_REQUEST_INFO: '{"acc":"OPS"}'}):
        with pytest.raises(ForbiddenError):
            require_operator(headers)
    for other in (operator, None):
        with pytest.raises(ForbiddenError):
            require_agent(other, "gw1")


@pytest.mark.parametrize(
    ("name", "service", "allowed"),
    [
        ("api", "registry", {"directory", "retag", "peers"}), ("policy", "registry", {"directory"}),
        ("metrics", "registry", {"directory"}), ("registry", "registry", set()), ("metrics", "policy", set()),
    ],
)  # fmt: skip
def test_which_service_may_call_which_verb(name: str, service: str, allowed: set[str]) -> None:
    key = KeyPair.generate(KeyKind.SIGNING)
    callers = ServiceCallers({name: key.public_base64})
    found = set()
    for verb in ("directory", "retag", "peers", "apply"):
        subject = f"warren.v1.rpc.{service}.{verb}"
        try:
            assert callers.verify(subject, sign_call(key, subject, int(time.time() + 5) * 1_000, b"{}"), b"{}") == name
        except ForbiddenError:
            continue
        found.add(verb)
    assert found - {"apply"} == allowed
