"""`warren token`: join tokens for gateways, bearer tokens for people and programs. Each is printed once."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer
from pydantic import BaseModel, ValidationError

from warren_cli.errors import CliError
from warren_cli.remote.client import BadValueError, path_of
from warren_cli.remote.options import URL, AsJson, TokenFile, Url, Yes, confirm, connect, reported
from warren_cli.remote.render import joined, moment, print_json, print_table
from warren_contracts.commands import (
    JoinTokenList,
    JoinTokenSummary,
    OperatorToken,
    OperatorTokenList,
    OperatorTokenSummary,
    Role,
)
from warren_contracts.durations import parse_duration
from warren_contracts.http_bodies import OperatorTokenRequest
from warren_contracts.peers import JoinToken, JoinTokenRequest
from warren_contracts.problems import invalid_input

app = typer.Typer(
    no_args_is_help=True, help="Tokens: create (for a gateway that joins), operator (for this API), list, remove."
)

CREATE_HELP = """Make a join token: a gateway that has it may join the fleet, with these tags.

The token is printed once, alone on standard output, or written to a file that only you may read (--out).

Examples:

  warren token create --tag branch --out spoke-1.token

  warren token create --tag branch --uses 50 --lifetime 7d --subnet 10.0.0.0/8

  warren token create --tag hub --peer hub-1 | ssh hub-1 warren enrol --nats tls://192.0.2.10:4222 --token-file -
"""

Out = Annotated[Path | None, typer.Option("--out", help="Write the token to this new file (0600).", show_default=False)]
Lifetime = Annotated[str, typer.Option("--lifetime", help="Such as 30m, 12h, 7d.")]


@app.command("create", help=CREATE_HELP)
@reported
def create_command(
    tag: Annotated[
        list[str] | None,
        typer.Option("--tag", help="A tag of the gateway that joins; may be repeated.", show_default=False),
    ] = None,
    uses: Annotated[int, typer.Option("--uses", help="How many gateways may join by it.")] = 1,
    lifetime: Lifetime = "1h",
    peer: Annotated[str | None, typer.Option("--peer", help="Only this id may join by it.", show_default=False)] = None,
    subnet: Annotated[
        list[str] | None,
        typer.Option("--subnet", help="Protected networks must lie within these; may be repeated.", show_default=False),
    ] = None,
    note: Annotated[str, typer.Option("--note", help="What it is for.", show_default=False)] = "",
    out: Out = None,
    url: Url = URL,
    token_file: TokenFile = None,
    as_json: AsJson = False,
) -> None:
    given = {
        "tags": tag or [], "uses": uses, "lifetime": parse_lifetime(lifetime), "peer": peer, "subnets": subnet or [],
        "note": note,
    }  # fmt: skip
    try:
        request = JoinTokenRequest.model_validate(given)
    except ValidationError as error:
        raise BadValueError(invalid_input(error.errors()).problem().line) from None
    with connect(url, token_file) as api, NewFile(out) as keep:
        made = api.call("POST", path_of("join-tokens"), JoinToken, request)
        keep(made.token)
    about = f"join token {made.id}: {made.uses} use(s), tags {joined(made.tags)}, until {moment(made.expires_at)}"
    _print_token(made, made.token, about, out, as_json)
    if not made.tags:
        typer.echo(
            "warning: without --tag a gateway that joins reads only policies for `all` and for its own id", err=True
        )


OPERATOR_HELP = """Make a bearer token for this API, for a person or a program. It is printed once.

With --tag it is for a part of the fleet: the gateways that carry at least one of these tags, and their tunnels. Its holder sees
nothing of the rest, and connects to the API and the page, not to the bus. Only administrators of the whole fleet make tokens.

Examples:

  warren token operator grafana --role viewer --out grafana.token

  warren token operator customer-7 --tag customer-7 --lifetime 90d
"""


@app.command("operator", help=OPERATOR_HELP)
@reported
def operator_command(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Whose token it is: it stands in the audit log.")],
    role: Annotated[Role, typer.Option("--role", help="What it may do.")] = Role.VIEWER,
    tag: Annotated[
        list[str] | None,
        typer.Option("--tag", help="Only for gateways with this tag; may be repeated. None: all.", show_default=False),
    ] = None,
    lifetime: Annotated[
        str, typer.Option("--lifetime", help="Such as 12h or 90d; none: until it is removed.", show_default=False)
    ] = "",
    out: Out = None,
    url: Url = URL,
    token_file: TokenFile = None,
    as_json: AsJson = False,
) -> None:
    seconds = parse_lifetime(lifetime) if lifetime else None
    with connect(url, token_file) as api, NewFile(out) as keep:
        request = OperatorTokenRequest.model_construct(name=name, role=role, lifetime=seconds)
        if tag:
            request = OperatorTokenRequest.model_construct(name=name, role=role, lifetime=seconds, scope=tuple(tag))
        made = api.call("POST", path_of("operator-tokens"), OperatorToken, request)
        keep(made.token)
    part = "" if made.scope is None else f", for gateways with {' or '.join(made.scope)}"
    _print_token(made, made.token, f"token of {made.name}, role {made.role.value}{part}", out, as_json)


LIST_HELP = """List the join tokens, or with --operator the bearer tokens of this API. Their text is never shown again.

Examples:

  warren token list

  warren token list --operator --json
"""

REMOVE_HELP = """Remove tokens: join tokens by their id, or with --operator bearer tokens by their name.

Nobody joins by a removed join token; who has joined stays (warren peers revoke). A removed bearer token opens nothing any
more: its connections to the bus end at once, the API server forgets it within five seconds.

Examples:

  warren token remove abcdefghijklmnop

  warren token remove --operator grafana ann --yes
"""


class TokenKind(NamedTuple):
    """How tokens of one kind are called, listed and removed."""

    noun: str
    path: str
    listing: type[BaseModel]
    summary: type[BaseModel]
    effect: str
    """What a removal does, in the question that confirms it."""
    columns: tuple[str, ...]
    row: Callable[[Any], tuple[Any, ...]]
    none: str
    optional: tuple[str, ...] = ()


JOIN_TOKENS = TokenKind(
    "join token", "join-tokens", JoinTokenList, JoinTokenSummary, "let nobody else join by it",
    ("ID", "USED", "EXPIRES", "TAGS", "PEER", "SUBNETS", "BY", "NOTE"),
    lambda it: (it.id, f"{it.used}/{it.uses}", moment(it.expires_at), joined(it.tags), it.peer or "-", joined(it.subnets),
                it.created_by or "-", it.note or "-"),
    "There are no join tokens: make one with `warren token create`.", ("BY", "SUBNETS", "PEER"),
)  # fmt: skip
OPERATOR_TOKENS = TokenKind(
    "operator token", "operator-tokens", OperatorTokenList, OperatorTokenSummary, "end its connections",
    ("NAME", "ROLE", "SCOPE", "CREATED", "EXPIRES", "BY"),
    lambda it: (it.name, it.role.value, "all" if it.scope is None else joined(it.scope), moment(it.created_at),
                moment(it.expires_at) if it.expires_at else "never", it.created_by or "-"),
    "There are no bearer tokens.",
)  # fmt: skip

OfOperators = Annotated[bool, typer.Option("--operator", help="The bearer tokens of this API, not join tokens.")]


@app.command("list", help=LIST_HELP)
@reported
def list_command(
    operator: OfOperators = False, url: Url = URL, token_file: TokenFile = None, as_json: AsJson = False
) -> None:
    kind = OPERATOR_TOKENS if operator else JOIN_TOKENS
    with connect(url, token_file) as api:
        found: list[BaseModel] = list(api.pages(path_of(kind.path), kind.listing, "tokens"))
    if as_json:
        print_json(found)
    else:
        print_table(kind.columns, map(kind.row, found), kind.none, optional=kind.optional)


@app.command("remove", help=REMOVE_HELP)
@reported
def remove_command(
    names: Annotated[list[str], typer.Argument(metavar="TOKEN", help="Ids of join tokens, or names of operators.")],
    operator: OfOperators = False,
    yes: Yes = False,
    url: Url = URL,
    token_file: TokenFile = None,
    as_json: AsJson = False,
) -> None:
    kind = OPERATOR_TOKENS if operator else JOIN_TOKENS
    removed: list[BaseModel] = []
    with connect(url, token_file) as api:
        confirm(f"Remove {joined(names)} and {kind.effect}?", yes)
        for name in names:
            removed.append(api.call("DELETE", path_of(kind.path, name), kind.summary))
            if not as_json:
                typer.echo(f"{kind.noun} {name} is removed")
    if as_json:
        print_json(removed)


def parse_lifetime(text: str) -> int:
    """Seconds of `30m`, `12h`, `7d` or a bare number; raises BadValueError."""
    text = text.strip()
    seconds = parse_duration(f"{text}s" if text.isdigit() else text)
    if seconds is None:
        raise BadValueError(f"--lifetime {text!r}: write a number with s, m, h or d (seconds to days), such as 12h")
    return seconds


class NewFile:
    """A new file (0600) made before the token is, so that no token is made that cannot be kept; removed on failure."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._kept = path is None

    def __enter__(self) -> "NewFile":
        if self._path is not None:
            try:
                self._descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
            except OSError as error:
                raise CliError(f"{self._path}: {error.strerror}") from None
        return self

    def __call__(self, token: str) -> None:
        if self._path is not None:
            with os.fdopen(os.dup(self._descriptor), "w") as file:
                file.write(token + "\n")
            self._kept = True

    def __exit__(self, *_: object) -> None:
        if self._path is not None:
            os.close(self._descriptor)
            if not self._kept:
                self._path.unlink(missing_ok=True)


def _print_token(made: JoinToken | OperatorToken, token: str, about: str, out: Path | None, as_json: bool) -> None:
    """Print the token once: into the file, or as the only line of standard output; the rest goes to standard error."""
    if as_json:
        print_json(made.model_copy(update={"token": ""}) if out else made)
        return
    if out is None:
        typer.echo(token)
        typer.echo(f"{about}; it is shown this once", err=True)
    else:
        typer.echo(f"{about}; written to {out}")


def register(root: typer.Typer) -> None:
    """Add `warren token`."""
    root.add_typer(app, name="token")
