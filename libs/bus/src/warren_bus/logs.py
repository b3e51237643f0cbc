"""Structured logging: events with fields, JSON in production, readable on a terminal; the trace id is on every line.

Secrets must not be logged. As a safeguard, what looks like one (a seed, a join token, a JWT, a password in a URL, or a field with
the name of a secret) is replaced before it is written.
"""

import logging
import re
import sys
from collections.abc import Mapping, MutableMapping
from typing import Any, TextIO

import structlog

from warren_bus.tracing import current

REDACTED = "[redacted]"

_SECRET = re.compile(
    r"\bS[A-Z2-7]{57}\b"  # the seed of an nkey
    r"|\bwj1_[a-z2-7]{16}(?:_[a-z2-7]{52})+(?:_[a-z2-7]{7})?"  # a join token
    r"|\bwo1_[a-z2-7]{52}"  # an operator's bearer token
    r"|\beyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]{8,}"  # a JWT
    r"|(?<=://)[^/\s:@]+:[^/\s@]+(?=@)"  # user and password of a URL
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)"
    r"|(?i:\bbearer\s+)[\w.~+/=-]{8,}"
)
_SECRET_NAME = re.compile(r"(?i)(?:^|_)(?:password|passwd|secret|seed|psk|token|private_key|authorization)$")


def redact(text: str) -> str:
    """The text with everything that looks like a secret replaced."""
    return _SECRET.sub(REDACTED, text)


def _clean(key: str, value: Any) -> Any:
    if _SECRET_NAME.search(key) and value:
        return REDACTED
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, bytes):
        return redact(value.decode("utf-8", "replace"))
    if isinstance(value, Mapping):
        return {name: _clean(str(name), inner) for name, inner in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_clean("", inner) for inner in value]
    if value is None or isinstance(value, int | float):
        return value
    return redact(str(value))


def _redact_event(logger: Any, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    for key, value in event.items():
        event[key] = _clean(key, value)
    return event


def _add_trace(logger: Any, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    here = current()
    if here is not None:
        event.setdefault("trace_id", here.trace_id)
    return event


def setup_logs(service: str, log_format: str = "", level: str = "info", stream: TextIO | None = None) -> None:
    """Configure logging of the whole process, also of libraries that use `logging`.

    `log_format` is `json` or `console`; empty: `console` on a terminal, else `json`.
    """
    out = stream or sys.stderr
    console = log_format == "console" or (not log_format and out.isatty())
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _add_trace,
        structlog.processors.StackInfoRenderer(),
        structlog.processors.format_exc_info,
        _redact_event,
    ]
    renderer: Any = structlog.processors.JSONRenderer()
    if console:
        from structlog.dev import ConsoleRenderer  # only where it is used

        renderer = ConsoleRenderer(colors=out.isatty())
    handler = logging.StreamHandler(out)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *shared],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.stdlib.add_logger_name,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
    structlog.contextvars.bind_contextvars(service=service)
