"""The command `warren-agent`: `run` is the agent, `enrol` makes this host a peer; the others look at it or ask its guard."""

import argparse
import asyncio
import os
import re
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NoReturn, TypeAlias

from warren_agent.adapters.guard import GuardClient
from warren_agent.bootstrap import work
from warren_agent.control import call
from warren_agent.enrolment import TOKEN_VARIABLE, enrol, has_token, is_refused, read_token
from warren_agent.errors import (
    AgentError,
    BadSettingError,
    DamagedIdentityError,
    EnrolmentError,
    MissingSettingError,
    NotEnrolledError,
    OtherPeerError,
)
from warren_agent.settings import (
    HOST_SETTINGS,
    AgentSettings,
    add_options,
    check_settings,
    given_settings,
    state_folder,
)
from warren_agent.state.host_settings import read_host_settings, store_host_settings
from warren_agent.state.store import Enrolment, StateStore
from warren_bus.errors import BusError
from warren_bus.logs import setup_logs
from warren_contracts.guard import HeldRequest, ReleaseRequest
from warren_contracts.names import is_name
from warren_process.unforeseen_error import in_one_line
from warren_trust.errors import TrustError

Verb = Callable[[AgentSettings, argparse.Namespace], Awaitable[None]]
Defaults = Callable[[Mapping[str, str]], dict[str, str]]
Verbs: TypeAlias = "argparse._SubParsersAction[_Parser]"

FAILED = 1
USAGE = 2
WIDTH = 80  # columns of a help text where there is no terminal
DEFECT = 70  # EX_SOFTWARE of sysexits.h: it failed while running; start it again

EXAMPLES = """\
examples:
  warren-agent enrol --token-file hub.join --endpoints 198.51.100.1 --subnets 10.0.0.0/24
  warren-agent enrol --token-file - --subnets 10.1.0.0/24 < branch.join    (no fixed address: it will initiate)
  warren-agent run
  warren-agent run --config /etc/warren/agent.toml --log-format json       (as a service)
  warren-agent doctor                                                      (what is wrong here, and what to do)
  warren-agent support-bundle --output gw1.tar.gz
  warren-agent release branches                                            (its traffic may leave in clear again)
  warren-agent run --teardown                                              (a clean stop removes the tunnels)
  warren-agent adopt berlin                          (the running agent takes over a connection that equals a tunnel)

Every option has a variable, named in brackets, and a key of the same name in the TOML file of --config.
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command; exits 0, 1 (it cannot be done like this), 2 (a wrong call) or 70 (it failed while running), with one
    line on standard error."""
    options = build_parser().parse_args(arguments)
    debug = options.log_level or os.environ.get("WARREN_LOG_LEVEL", "")
    try:
        given = given_settings(vars(options))
        settings = check_settings(options.defaults(given) | given)
        setup_logs("agent", settings.log_format, settings.log_level)
        asyncio.run(options.verb(settings, options))
    except (AgentError, BusError, TrustError) as error:
        print(f"warren-agent: {error}", file=sys.stderr)
        sys.exit(USAGE if isinstance(error, MissingSettingError) else FAILED)
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        if debug.lower() == "debug":
            raise
        print(f"warren-agent: {in_one_line(error)} (--log-level debug shows where)", file=sys.stderr)
        sys.exit(DEFECT)


class _Formatter(argparse.RawDescriptionHelpFormatter):
    """As wide as the terminal; argparse would import shutil for that, with every option: 0.6 MB."""

    def __init__(self, prog: str) -> None:
        try:
            width = int(os.environ.get("COLUMNS") or os.get_terminal_size().columns)
        except (OSError, ValueError):
            width = WIDTH
        super().__init__(prog, width=width - 2)


class _Parser(argparse.ArgumentParser):
    """A wrong call is one line, without the whole usage before it. An option is never abbreviated: `--token` is not `--token-file`."""

    def __init__(self, **fields: Any) -> None:
        super().__init__(**{"formatter_class": _Formatter, **fields, "allow_abbrev": False})

    def error(self, message: str) -> NoReturn:
        shown = re.sub(r"\bwj1_\S+", "(a join token)", message)
        hint = (
            "; a token is never an argument: give --token-file FILE, or - for standard input"
            if shown != message
            else ""
        )
        print(f"{self.prog}: {shown}{hint}; see {self.prog} --help", file=sys.stderr)
        sys.exit(USAGE)


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = _Parser(
        prog="warren-agent", description="The agent of one Warren peer: it keeps this host's tunnels as the fleet wants them.",
        epilog=EXAMPLES,
    )  # fmt: skip
    verbs = parser.add_subparsers(required=True, metavar="VERB")
    token_file = "--token-file", {
        "metavar": "FILE", "help": f"file of the join token, - for standard input [else {TOKEN_VARIABLE}]",
    }  # fmt: skip
    _add_verb(
        verbs, "run", "be the agent of this host, until SIGTERM", _run, _stored,
        ("--teardown", {"action": "store_true", "help": "remove the tunnels at a clean stop (default: keep them)"}), token_file,
    )  # fmt: skip
    _add_verb(verbs, "enrol", "make this host a peer of a fleet", _enrol, _quiet, token_file)
    _add_verb(
        verbs, "release", "stop protecting the traffic of deleted policies", _release, _stored_quiet,
        ("policy", {"nargs": "?", "metavar": "POLICY", "help": "of this policy only; omitted: of all"}),
    )  # fmt: skip
    _add_verb(verbs, "protection", "list the traffic that the guard of this host protects", _protection, _stored_quiet)
    _add_verb(
        verbs, "doctor", "look at this host, its daemon and the way to the bus", _doctor, _stored_quiet,
        ("--json", {"action": "store_true", "help": "print JSON"}),
    )  # fmt: skip
    _add_verb(
        verbs, "support-bundle", "write what support needs to one file, without secrets", _support_bundle, _stored_quiet,
        ("--output", {"metavar": "FILE", "help": "a .tar.gz file; default: in the current folder"}),
    )  # fmt: skip
    _add_verb(
        verbs, "adopt", "take over a connection that somebody else made in the daemon", _adopt, _stored_quiet,
        ("connection", {"metavar": "CONNECTION", "help": "its name, as `swanctl --list-conns` shows it"}),
    )  # fmt: skip
    listing = verbs.add_parser("options")  # without help: a shell that completes `warren enrol` asks for it
    listing.add_argument("of", choices=tuple(verbs.choices))
    listing.set_defaults(verb=_print_options, defaults=dict, log_level="error", verbs=verbs.choices)
    return parser


async def _print_options(_: AgentSettings, options: argparse.Namespace) -> None:
    """A line for each option of a verb: its name, a tab, and what it is for."""
    for action in options.verbs[options.of]._actions:
        for name in action.option_strings:
            print(f"{name}\t{action.help or ''}")


async def _doctor(settings: AgentSettings, options: argparse.Namespace) -> None:
    from warren_agent.doctor.command import run_doctor  # nothing that the agent itself needs

    await run_doctor(settings, options)


async def _support_bundle(settings: AgentSettings, options: argparse.Namespace) -> None:
    from warren_agent.doctor.command import run_support_bundle  # as above

    await run_support_bundle(settings, options)


def _stored(given: Mapping[str, str]) -> dict[str, str]:
    """What `enrol` stored of this host, where a verb's own options, variables and file do not say otherwise."""
    return read_host_settings(state_folder(given))


def _quiet(_: Mapping[str, str]) -> dict[str, str]:
    """One line gives the result; logs are printed on request."""
    return {"log_level": "error"}


def _stored_quiet(given: Mapping[str, str]) -> dict[str, str]:
    return _quiet(given) | _stored(given)


def _add_verb(
    verbs: Verbs, name: str, meaning: str, verb: Verb, defaults: Defaults, *arguments: tuple[str, dict[str, Any]]
) -> None:
    """Add a verb with its own arguments, then the options that all have."""
    parser = verbs.add_parser(
        name, help=meaning, description=f"{meaning[0].upper()}{meaning[1:]}.", epilog=EXAMPLES,
    )  # fmt: skip
    parser.set_defaults(verb=verb, defaults=defaults)
    for argument, fields in arguments:
        parser.add_argument(argument, **fields)
    add_options(parser)


async def _enrol(settings: AgentSettings, options: argparse.Namespace) -> None:
    store = StateStore(settings.state)
    store.prepare()
    given = given_settings(vars(options))
    try:
        identity = store.identity()
    except (NotEnrolledError, DamagedIdentityError):
        token = read_token(options.token_file, os.environ)
        store.lock()
        identity = await enrol(settings, store, token)
        store_host_settings(store.folder, given)
        print(f"enrolled as {identity.peer}, tags: {', '.join(identity.tags) or 'none'}")
    else:
        if has_token(options.token_file, os.environ) and await is_refused(settings, store, identity):
            await _enrol_again(settings, store, identity, options)
        else:
            _enrolled_already(settings, store, identity, given)


async def _enrol_again(
    settings: AgentSettings, store: StateStore, former: Enrolment, options: argparse.Namespace
) -> None:
    """The key of a revoked peer is refused for good, so the host joins with a new one."""
    token = read_token(options.token_file, os.environ)
    store.lock()
    try:
        with store.new_keys():
            again = replace(settings, peer=settings.peer or former.peer, servers=settings.servers or former.servers)
            identity = await enrol(again, store, token)
    except EnrolmentError as error:
        raise EnrolmentError(
            f"this host was the peer {former.peer} and is refused: it was revoked. Joining again: {error}"
        ) from None
    store_host_settings(store.folder, given_settings(vars(options)))
    tags = ", ".join(identity.tags) or "none"
    print(
        f"this host was the peer {former.peer} and was revoked; enrolled again as {identity.peer} with new keys, tags: {tags}"
    )


async def _adopt(settings: AgentSettings, options: argparse.Namespace) -> None:
    print(await call(settings.state, "adopt", options.connection))


def _enrolled_already(
    settings: AgentSettings, store: StateStore, identity: Enrolment, given: Mapping[str, str]
) -> None:
    """Nothing joins twice; what is said of the host is kept for its next run. OtherPeerError for another peer id."""
    if settings.peer not in (None, identity.peer):
        raise OtherPeerError(
            f"this host is the peer {identity.peer} already, and not {settings.peer}: revoke {identity.peer} and remove"
            f" {store.folder} to join as another"
        )
    said = f"this host is the peer {identity.peer} already"
    kept = read_host_settings(store.folder)
    changed = [name for name in HOST_SETTINGS if name in given and given[name] != kept.get(name, "")]
    if settings.servers and settings.servers != identity.servers:
        changed.append("nats")
    if changed:
        store.lock()  # the agent must not be at work with what was kept before
        store_host_settings(store.folder, given)
        if "nats" in changed:
            store.save_identity(identity.model_copy(update={"servers": settings.servers}))
        said += f"; changed for its next run: {', '.join(changed)}"
    print(said)


async def _release(settings: AgentSettings, options: argparse.Namespace) -> None:
    policy = options.policy
    if policy is not None and not is_name(policy):
        raise BadSettingError(f"policy: invalid name {policy!r}: 1 to 63 characters of a-z, 0-9, _ and -")
    reply = await _guard(settings).ask(ReleaseRequest(policy=policy))
    print(f"released: {reply.released} tunnels of deleted policies")


async def _protection(settings: AgentSettings, options: argparse.Namespace) -> None:
    for held in (await _guard(settings).ask(HeldRequest())).held:
        until = f" until {held.until:%Y-%m-%d %H:%M:%S}Z" if held.until is not None else ""
        print(f"{held.policy} {held.tunnel}: {held.state.value}{until}")


def _guard(settings: AgentSettings) -> GuardClient:
    return GuardClient(settings.guard_socket, lambda: 0.0)


async def _run(settings: AgentSettings, options: argparse.Namespace) -> None:
    store = StateStore(settings.state)
    store.prepare()
    store.lock()
    await work(settings, store, await _identity(settings, store, options), options.teardown)


async def _identity(settings: AgentSettings, store: StateStore, options: argparse.Namespace) -> Enrolment:
    """The identity on disk; a host that has none joins by the token that it was given, if any."""
    try:
        return store.identity()
    except (NotEnrolledError, DamagedIdentityError):
        if not has_token(options.token_file, os.environ):
            raise
        identity = await enrol(settings, store, read_token(options.token_file, os.environ))
        store_host_settings(store.folder, given_settings(vars(options)))
        return identity
