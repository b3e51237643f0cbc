"""Options that every verb has, and what happens to its errors."""

import functools
import inspect
import json
import sys
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import Annotated, Any, ParamSpec, TypeVar

import typer
from typer.core import TyperGroup

from warren_cli.command import FAILED, INTERRUPTED, USAGE
from warren_cli.errors import CliError
from warren_cli.remote.client import DEFAULT_URL, ApiClient, RefusedError, UsageError, read_token, token_path
from warren_cli.remote.server_trust import ServerTrust
from warren_cli.terminal import echo

P = ParamSpec("P")
R = TypeVar("R")

Url = Annotated[str, typer.Option("--url", envvar="WARREN_URL", help="The API server.")]
TokenFile = Annotated[
    Path | None,
    typer.Option(
        "--token-file", envvar="WARREN_TOKEN_FILE", show_default=False,
        help="File with a bearer token; without one, the token that `warren up` made on this machine.",
    ),
]  # fmt: skip
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON; errors too.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]

URL = DEFAULT_URL


CaFile = Annotated[
    Path | None,
    typer.Option(
        "--ca-file", envvar="WARREN_CA_FILE", show_default=False,
        help="CA of the API server (PEM); without one, that of `warren up` next to the token, else those of this system.",
    ),
]  # fmt: skip
Cleartext = Annotated[
    bool,
    typer.Option("--cleartext", envvar="WARREN_CLEARTEXT", help="Send the token by HTTP to another machine, too."),
]

_trust: ContextVar[ServerTrust] = ContextVar("_trust", default=ServerTrust())  # noqa: B039 - it is frozen


def trust_by(ca_file: Path | None, cleartext: bool) -> None:
    """Take these options for what `connect` opens from now on."""
    _trust.set(ServerTrust(ca_file, cleartext))


def with_trust(function: Callable[P, R]) -> Callable[P, R]:
    """Add `--ca-file` and `--cleartext` to a verb or group with a `--url`: they hold for what `connect` opens in it."""
    signature = inspect.signature(function)
    if "url" not in signature.parameters:
        return function

    @functools.wraps(function)
    def trusting(*args: P.args, **kwargs: P.kwargs) -> R:
        if "ca_file" in kwargs:  # absent where a group calls its first verb
            trust_by(kwargs.pop("ca_file"), kwargs.pop("cleartext"))  # type: ignore[arg-type] # by the options
        return function(*args, **kwargs)

    keyword = inspect.Parameter.KEYWORD_ONLY
    added = [
        inspect.Parameter("ca_file", keyword, default=None, annotation=CaFile),
        inspect.Parameter("cleartext", keyword, default=False, annotation=Cleartext),
    ]
    vars(trusting)["__signature__"] = signature.replace(parameters=[*signature.parameters.values(), *added])
    return trusting


def connect(url: str, token_file: Path | None, *, needs_token: bool = True) -> ApiClient:
    """A client with the token of the file, and the trust that this call's options give.

    Raises UsageError or CliError; without `needs_token`, not for a token that nobody named.
    """
    try:
        path = token_path(token_file)
        token = read_token(path)
    except CliError:
        if needs_token or token_file is not None:
            raise
        return ApiClient(url, "", _trust.get())
    return ApiClient(url, token, _trust.get().next_to(path))


class VerbGroup(TyperGroup):
    """A group whose own options may stand before the verb: they are the verb's, and a verb without them refuses them."""

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        name, command, rest = super().resolve_command(ctx, args)
        return name, command, [*self._given(ctx), *rest]

    def _given(self, ctx: Any) -> Iterator[str]:
        for option in self.get_params(ctx):
            source = ctx.get_parameter_source(option.name)
            if source is None or source.name != "COMMANDLINE":
                continue
            value = ctx.params[option.name]
            if isinstance(value, bool):
                yield option.opts[0]
            else:
                yield from (option.opts[0], str(value))


def confirm(question: str, yes: bool) -> None:
    """Ask before something is lost; UsageError where nobody can answer, typer.Abort for anything but yes."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise UsageError(f"{question} There is no terminal to answer at: add --yes")
    typer.confirm(question, abort=True, err=True)


def reported(verb: Callable[P, R]) -> Callable[P, R]:
    """A line for each finding and exit code 1 for an error or a wrong value, 2 for a wrong call, 130 and silence for Ctrl-C.

    With --json one line is an object: `error`, and `problem` where the API server refused (RFC 9457). A verb with a `url` also has
    the options `--ca-file` and `--cleartext`.
    """

    signature = inspect.signature(verb)

    @functools.wraps(verb)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return verb(*args, **kwargs)
        except CliError as error:
            findings = [" ".join(line.split()) for line in str(error).splitlines()]
            as_json = signature.bind(*args, **kwargs).arguments.get("as_json") is True
            for line in [_as_object(error, findings)] if as_json else [f"warren: {finding}" for finding in findings]:
                echo(line, err=True)
            raise typer.Exit(USAGE if isinstance(error, UsageError) else FAILED) from None
        except KeyboardInterrupt:
            raise typer.Exit(INTERRUPTED) from None

    return with_trust(guarded)


def _as_object(error: CliError, findings: list[str]) -> str:
    found: dict[str, Any] = {"error": "; ".join(findings)}
    if isinstance(error, RefusedError):
        found["problem"] = error.problem.model_dump(mode="json")
    return json.dumps(found)
