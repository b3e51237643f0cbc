"""`warren events`: what happened, and what happens."""

import json
import select
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from http import HTTPStatus
from typing import Annotated, Any

import typer

from warren_cli.errors import CliError
from warren_cli.remote import completion
from warren_cli.remote.client import ApiClient, ApiUnavailableError, RefusedError, path_of
from warren_cli.remote.options import URL, AsJson, TokenFile, Url, connect, reported
from warren_cli.remote.render import moment
from warren_cli.remote.server_trust import CertificateError
from warren_cli.terminal import echo
from warren_contracts.base import BIGINT_MAX
from warren_contracts.events import KINDS

RETRY_SECONDS = 1.0  # between two tries while the API server is unavailable

HELP = f"""Print events: those that are stored, or with --follow those that come.

A follower goes on where it was when the API server returns.

Kinds: {", ".join(KINDS)}.

Examples:

  warren events --follow

  warren events --follow --kind tunnel --kind presence --json

  warren events --after 1200
"""


@dataclass
class Wire:
    """Server-sent events of lines (WHATWG HTML, 9.2.6)."""

    fields: dict[str, str] = field(default_factory=dict)

    def feed(self, line: str) -> tuple[str, dict[str, str]] | None:
        """What a line completes: ("event", its fields) or ("comment", {"text": ...}); None while nothing is complete."""
        if line.startswith(":"):
            return "comment", {"text": line[1:].strip()}
        if line == "":
            fields, self.fields = self.fields, {}
            return ("event", fields) if "data" in fields else None
        name, _, value = line.partition(":")
        self.fields[name] = value.removeprefix(" ")
        return None


@reported
def events_command(
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Wait for more until Ctrl-C.")] = False,
    kind: Annotated[
        list[str] | None,
        typer.Option(
            "--kind", help="Only this kind; may be repeated.", show_default=False, autocompletion=completion.kinds
        ),
    ] = None,
    after: Annotated[
        int | None,
        typer.Option(
            "--after",
            min=0,
            max=BIGINT_MAX,
            show_default=False,
            help="Begin after this sequence. [default: 0; with --follow: now]",
        ),
    ] = None,
    url: Url = URL,
    token_file: TokenFile = None,
    as_json: AsJson = False,
) -> None:
    """The options of `warren events`."""
    start = after if follow or after is not None else 0
    with connect(url, token_file) as api:
        for body in _events(api, start, kind or [], follow):
            echo(json.dumps(body) if as_json else line_of(body))


def stored_events(api: ApiClient, kinds: list[str]) -> Iterator[dict[str, Any]]:
    """The stored events of these kinds, oldest first. Raises CliError."""
    return _events(api, 0, kinds, follow=False)


def follow_events(api: ApiClient, after: int | None, kinds: list[str]) -> Iterator[dict[str, Any]]:
    """Events as they come, also over a restart of the API server. Raises CliError."""
    return _events(api, after, kinds, follow=True)


def _events(api: ApiClient, after: int | None, kinds: list[str], follow: bool) -> Iterator[dict[str, Any]]:
    reached, said = False, ""
    while True:
        try:
            for body in _one_stream(api, after, kinds, follow):
                reached = True
                if body is None:
                    continue
                after = int(body["sequence"])
                yield body
            if not follow:
                return
        except (ApiUnavailableError, CertificateError, RefusedError) as error:
            if not (follow and reached and _may_pass(error)):
                raise
            if isinstance(error, CertificateError) and str(error) != said:
                said = str(error)
                echo(f"warren: {said}; waiting for another certificate or CA", err=True)
        select.select([], [], [], RETRY_SECONDS)


def _may_pass(error: CliError) -> bool:
    """Whether a follower waits: the API server returns, or the file of its CA is replaced."""
    return not isinstance(error, RefusedError) or error.status == HTTPStatus.SERVICE_UNAVAILABLE


def _one_stream(api: ApiClient, after: int | None, kinds: list[str], follow: bool) -> Iterator[dict[str, Any] | None]:
    """Events of one connection; None when it stands. Ends after the last stored one (without `follow`) or when the API server stops."""
    wire = Wire()
    headers = {"accept": "text/event-stream"}
    if after is not None:
        headers["last-event-id"] = str(after)
    with api.stream(path_of("events"), headers, kind=kinds or None) as response:
        for line in response.lines():
            match wire.feed(line):
                case "comment", {"text": text}:
                    yield None
                    if text == "alive" and not follow:
                        return
                    if "token" in text:
                        raise CliError(text)
                case "event", fields:
                    yield _body(fields)


def _body(fields: dict[str, str]) -> dict[str, Any]:
    try:
        body = json.loads(fields["data"])
        if isinstance(body, dict) and isinstance(body.get("sequence"), int):
            return body
    except ValueError:
        pass
    raise CliError("the API server sent an event that cannot be read")


def line_of(body: dict[str, Any]) -> str:
    """One event as one line: when, what, and the plain fields of it."""
    data = body.get("data") if isinstance(body.get("data"), dict) else {}
    assert isinstance(data, dict)
    kind = str(body.get("type", "")).removeprefix("warren.").removesuffix(".v1")
    words = (
        f"{name}={_word(value)}"
        for name, value in (*data.items(), *_cause(data.get("status")))
        if name != "at" and not isinstance(value, dict) and value not in ("", None, [])
    )
    line = f"{body['sequence']:>6}  {_moment(body.get('time'))}  {kind:<16} {' '.join(words)}".rstrip()
    return line.replace("\n", "\\n")


def _cause(status: Any) -> Iterator[tuple[str, Any]]:
    """Why a tunnel has its state, and since when, of the report that the event holds."""
    if isinstance(status, dict):
        reason = status.get("reason")
        yield from (("reason", reason), ("detail", status.get("detail"))) if reason not in (None, "none") else ()
        yield "since", status.get("since")


def _word(value: Any) -> str:
    if isinstance(value, list):
        return ",".join(map(str, value))
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.1f}"
    text = str(value)
    return (
        json.dumps(text, ensure_ascii=False)
        if any(letter.isspace() or not letter.isprintable() for letter in text)
        else text
    )


def _moment(text: Any) -> str:
    try:
        return moment(datetime.fromisoformat(str(text)))
    except ValueError:
        return "-" * 25


def register(root: typer.Typer) -> None:
    """Add `warren events`."""
    root.command("events", help=HELP)(events_command)
