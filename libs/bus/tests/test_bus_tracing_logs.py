"""Trace context and logs: one id on every line, and no secret on any."""

import asyncio
import io
import json
import logging

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from warren_bus.logs import REDACTED, redact, setup_logs
from warren_bus.tracing import HEADER, continued, current, entered, new_trace, outgoing, parse
from warren_service.otel import build_tracer, span
from warren_trust.keys import KeyKind, KeyPair

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
SEED = KeyPair(KeyKind.USER, bytes(32)).seed
JOIN_TOKEN = f"wj1_{'a' * 16}_{'b' * 52}_{'c' * 52}"
OPERATOR_TOKEN = f"wo1_{'d' * 52}"
JWT = "eyJ0eXAiOiJKV1QifQ.eyJzdWIiOiJ4In0.c2lnbmF0dXJl"


def test_traceparent_round_trips() -> None:
    here = new_trace()
    assert parse(here.traceparent) == here
    assert parse(here.child().traceparent) != here
    assert here.child().trace_id == here.trace_id


@pytest.mark.parametrize(
    "text",
    [
        None, "", "x", PARENT.upper(), PARENT[:-1], PARENT + "-x", PARENT + "\n", "ff" + PARENT[2:],
        f"00-{'0' * 32}-b7ad6b7169203331-01", f"00-0af7651916cd43dd8448eb211c80319c-{'0' * 16}-01",
    ],
)  # fmt: skip
def test_malformed_traceparent_begins_a_new_trace(text: str | None) -> None:
    assert parse(text) is None
    with continued({HEADER: text} if text else None) as context:
        assert context.trace_id != "0af7651916cd43dd8448eb211c80319c"


@given(text=st.text(max_size=80))
def test_any_text_is_parsed_without_an_error(text: str) -> None:
    assert parse(text) is None


def test_future_version_with_more_fields_is_read() -> None:
    assert parse("01" + PARENT[2:] + "-more") is not None


async def test_work_for_a_message_continues_its_trace_in_every_task() -> None:
    async def deeper() -> str:
        return outgoing()

    with continued({HEADER: PARENT}):
        sent = await asyncio.create_task(deeper())
    assert sent.split("-")[1] == "0af7651916cd43dd8448eb211c80319c"
    assert sent != PARENT
    assert current() is None


def test_span_keeps_the_trace_id() -> None:
    tracer = build_tracer("test")
    with span(tracer, "outer", {HEADER: PARENT}) as outer, span(tracer, "inner") as inner:
        assert outer.trace_id == inner.trace_id == "0af7651916cd43dd8448eb211c80319c"
        assert outer.span_id != inner.span_id
        assert outgoing().split("-")[1] == outer.trace_id
    with span(tracer, "first") as first:
        assert first.trace_id != outer.trace_id


def test_json_line_has_service_trace_and_fields() -> None:
    out = io.StringIO()
    setup_logs("policy", "json", stream=out)
    with entered(new_trace()) as here:
        structlog.get_logger("x").info("policy.stored", revision=7)
        logging.getLogger("library").warning("of %s", "old")
    first, second = (json.loads(line) for line in out.getvalue().splitlines())
    assert (first["event"], first["revision"], first["service"], first["level"]) == (
        "policy.stored",
        7,
        "policy",
        "info",
    )
    assert first["trace_id"] == second["trace_id"] == here.trace_id
    assert second["event"] == "of old"


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_planted_secrets_do_not_reach_the_log(log_format: str) -> None:
    out = io.StringIO()
    setup_logs("policy", log_format, stream=out)
    log = structlog.get_logger("x")
    planted = {
        "seed": SEED,
        "join": JOIN_TOKEN,
        "jwt": JWT,
        "psk": "correct horse battery",
        "dsn": "postgresql://u:hunter2@h/d",
    }
    for name, secret in planted.items():
        log.info(f"event with {secret}" if name in {"seed", "join", "jwt", "dsn"} else "event", **{name: secret})
        log.info("nested", body={"inner": [secret] if name != "psk" else "x", "psk": secret})
        logging.getLogger("library").error("with %s", secret if name != "psk" else "x")
    try:
        raise ValueError(f"an error that shows {SEED} and {OPERATOR_TOKEN} and Bearer {JWT}")
    except ValueError:
        log.exception("failed", error=ValueError(JOIN_TOKEN))
    text = out.getvalue()
    for secret in (SEED, JOIN_TOKEN, OPERATOR_TOKEN, JWT, "correct horse battery", "hunter2"):
        assert secret not in text
    assert REDACTED in text


def test_level_is_respected() -> None:
    out = io.StringIO()
    setup_logs("policy", "json", "warning", stream=out)
    structlog.get_logger("x").info("quiet")
    structlog.get_logger("x").warning("loud")
    assert [json.loads(line)["event"] for line in out.getvalue().splitlines()] == ["loud"]


def test_what_is_no_secret_stays() -> None:
    text = "peer gw1 at 192.0.2.1 has SPI c0ffee01, key UAB2CB576PHBBPQ5ODORRZ2LYCMWPZGWGCN2KDK7DXOIMZASKUY3RLKK"
    assert redact(text) == text
