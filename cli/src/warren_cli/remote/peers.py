"""`warren peers`: list, show, retag, priority, revoke."""

from collections.abc import Sequence
from typing import Annotated

import typer

from warren_cli.remote import completion
from warren_cli.remote.client import ApiClient, UsageError, path_of
from warren_cli.remote.options import (
    URL,
    AsJson,
    TokenFile,
    Url,
    VerbGroup,
    Yes,
    confirm,
    connect,
    reported,
    with_trust,
)
from warren_cli.remote.render import joined, moment, print_fields, print_json, print_table
from warren_contracts.commands import PeerList, TunnelList
from warren_contracts.http_bodies import PeerPriority, Tags
from warren_contracts.peers import DriverCapabilities, KeyUse, PeerHost, PeerSummary
from warren_contracts.status import DriverState, DriverStatus, FleetTunnel, GuardFacts, GuardState, HostFacts
from warren_contracts.verdicts import identity_in_use, intent_is_stale

app = typer.Typer(
    cls=VerbGroup,
    invoke_without_command=True,
    help="The gateways of the fleet: list (also without a word), show, retag, priority, revoke.\n\nExample: warren peers --json",
)


@app.callback()
@with_trust
def peers(context: typer.Context, url: Url = URL, token_file: TokenFile = None, as_json: AsJson = False) -> None:
    if context.invoked_subcommand is None:
        list_command(url, token_file, as_json)


@app.command("list")
@reported
def list_command(url: Url = URL, token_file: TokenFile = None, as_json: AsJson = False) -> None:
    """List the peers. Example: warren peers list --json"""
    with connect(url, token_file) as api:
        found: list[PeerSummary] = list(api.pages(path_of("peers"), PeerList, "peers"))
    if as_json:
        print_json(found)
        return
    rows = (
        (it.peer, _state(it), joined(it.tags), joined(it.record.endpoints),
         joined(it.record.subnets), it.record.platform.value, moment(it.last_seen))
        for it in found
    )  # fmt: skip
    columns = ("PEER", "STATE", "TAGS", "ADDRESSES", "SUBNETS", "PLATFORM", "SEEN")
    none = "There are no peers: make a join token with `warren token create`."
    print_table(columns, rows, none, optional=("PLATFORM", "ADDRESSES", "SUBNETS", "TAGS"))


@app.command("show")
@reported
def show_command(
    peer: Annotated[str, typer.Argument(metavar="PEER", autocompletion=completion.peers)],
    url: Url = URL,
    token_file: TokenFile = None,
    as_json: AsJson = False,
) -> None:
    """Show one peer. Example: warren peers show spoke-1"""
    with connect(url, token_file) as api:
        found = api.call("GET", path_of("peers", peer), PeerSummary)
    _show(found, as_json)


@app.command("retag")
@reported
def retag_command(
    peer: Annotated[str, typer.Argument(metavar="PEER", autocompletion=completion.peers)],
    tags: Annotated[list[str] | None, typer.Argument(metavar="TAG", help="All its tags.", show_default=False)] = None,
    none: Annotated[bool, typer.Option("--none", help="Remove all its tags.")] = False,
    yes: Yes = False,
    url: Url = URL,
    token_file: TokenFile = None,
    as_json: AsJson = False,
) -> None:
    """Give a peer these tags and no others. Example: warren peers retag spoke-1 branch dmz

    Asks before a tag is removed: tunnels of policies for that tag end.
    """
    if bool(tags) == none:
        raise UsageError("give all tags of the peer, or --none to remove them")
    with connect(url, token_file) as api:
        held = api.call("GET", path_of("peers", peer), PeerSummary)
        lost = [tag for tag in held.tags if tag not in (tags or ())]
        if lost:
            confirm(f"Remove {joined(lost)} from {peer}, which has {tunnels_of(api, peer)}?", yes)
        body = Tags.model_construct(tags=tuple(tags or ()))  # the API server names what is wrong with a tag
        found = api.call("PUT", path_of("peers", peer, "tags"), PeerSummary, body)
    _show(found, as_json)


@app.command("priority")
@reported
def priority_command(
    peer: Annotated[str, typer.Argument(metavar="PEER", autocompletion=completion.peers)],
    priority: Annotated[
        int | None, typer.Argument(metavar="[NUMBER]", help="1 to 1000000, the highest is used first; none: remove it.")
    ] = None,
    url: Url = URL,
    token_file: TokenFile = None,
    as_json: AsJson = False,
) -> None:
    """Set which of several gateways of one network is used first. Example: warren peers priority hub-1 200"""
    with connect(url, token_file) as api:
        body = PeerPriority.model_construct(priority=priority)  # the API server names what is wrong with a number
        found = api.call("PUT", path_of("peers", peer, "priority"), PeerSummary, body)
    _show(found, as_json)


@app.command("revoke")
@reported
def revoke_command(
    peer: Annotated[str, typer.Argument(metavar="PEER", autocompletion=completion.peers)],
    yes: Yes = False,
    url: Url = URL,
    token_file: TokenFile = None,
    as_json: AsJson = False,
) -> None:
    """Remove a peer from the fleet, for good: its tunnels end. Example: warren peers revoke spoke-1 --yes"""
    with connect(url, token_file) as api:
        if not yes:
            api.call("GET", path_of("peers", peer), PeerSummary)  # a mistyped peer is an error before the question
            confirm(f"Revoke {peer} for good and end {tunnels_of(api, peer)}?", yes)
        found = api.call("DELETE", path_of("peers", peer), PeerSummary)
    if as_json:
        print_json(found)
    else:
        typer.echo(f"{found.peer} is revoked")


def _show(found: PeerSummary, as_json: bool) -> None:
    if as_json:
        print_json(found)
    else:
        _print_peer(found)


def tunnels_of(api: ApiClient, peer: str) -> str:
    """How many tunnels a peer has, and by which policies, as its fleet reports them."""
    found: list[FleetTunnel] = list(api.pages(path_of("tunnels"), TunnelList, "tunnels", peer=peer))
    policies = sorted({status.policy for tunnel in found for status in tunnel.ends.values() if status.policy})
    count = f"{len(found)} tunnel{'' if len(found) == 1 else 's'}"
    return f"{count} (policies: {joined(policies)})" if policies else count


def _state(found: PeerSummary) -> str:
    if found.revoked:
        return "revoked"
    notes = (
        ", refused" if found.refused else "",
        ", two hosts" if len(found.hosts) > 1 else "",
        ", stale" if intent_is_stale(found.host) else "",
        *(f", {it.kind} unreachable" for it in found.drivers if it.state is DriverState.UNREACHABLE),
    )
    return found.presence.value + "".join(notes)


def _driver(driver: DriverCapabilities, states: Sequence[DriverStatus]) -> str:
    status = next((it for it in states if it.kind == driver.kind), DriverStatus(kind=driver.kind))
    state = "" if status.state is DriverState.UNKNOWN else f", {status.state.value}"
    return f"{driver.kind} {driver.version}".strip() + state + (f" ({status.detail})" if status.detail else "")


MAX_SKEW_S = 2.0  # s; a heartbeat is on its way for some of it


def _host(found: PeerSummary) -> tuple[tuple[str, object], ...]:
    """What its agent reports of the host; what is not known is left out."""
    skew = found.clock_skew_s
    wrong = "" if skew is None or abs(skew) <= MAX_SKEW_S else ": set the clocks, certificates and calls need the time"
    clock = ("clock", "" if skew is None else f"{skew:+.1f} s to the bus{wrong}")
    host = found.host
    if host is None:
        return (clock,)
    return (
        ("kernel", host.kernel),
        clock,
        ("intent", _intent(host)),
        ("ike sockets", _sockets(host.ike_sockets)),
        ("forwarding", _word(host.forwards_ipv4, "on", "off (IPv4)")),
        ("path mtu", "" if host.path_mtu is None else f"{host.path_mtu} bytes"),
        ("nat", _word(host.behind_nat, "yes: an announced address is not the host's", "no")),
        ("guard", _guard(host.guard)),
    )


def _connected(host: PeerHost) -> str:
    record = ", has the record" if host.holds_record else ""
    return f"{host.name or '-'} at {host.address or '-'}, connected since {moment(host.since)}{record}"


def _intent(host: HostFacts) -> str:
    if not intent_is_stale(host):
        return ""
    return f"stale: no digest of the registry for {round(host.intent_unconfirmed_s or 0)} s; see registry and NATS"


def _sockets(listening: Sequence[str] | None) -> str:
    if listening is None:
        return ""
    return joined(listening) if listening else "none: nothing listens at UDP 500 and 4500"


def _guard(found: GuardFacts | None) -> str:
    if found is None:
        return ""
    words = {
        GuardState.ABSENT: "not installed",
        GuardState.UNUSED: "installed, not used by the agent",
        GuardState.LOADED: f"loaded, protects {found.tunnels} tunnels",
    }
    text = words.get(found.state, found.state.value) + (f": {found.detail}" if found.detail else "")
    return text + (f"; table restored {moment(found.restored_at)}" if found.restored_at else "")


def _word(value: bool | None, yes: str, no: str) -> str:
    return "" if value is None else yes if value else no


def _print_peer(found: PeerSummary) -> None:
    record = found.record
    print_fields(
        (
            ("peer", found.peer),
            ("state", _state(found)),
            ("refused", found.refused),
            ("tags", joined(found.tags)),
            ("identity", record.identity),
            ("public key", record.key(KeyUse.IKE) or "-"),
            ("addresses", joined(record.endpoints)),
            ("subnets", joined(record.subnets)),
            ("priority", "" if record.priority is None else record.priority),
            ("platform", record.platform.value),
            *(("driver", _driver(it, found.drivers)) for it in record.drivers),
            *(("control socket", it.socket) for it in found.drivers),
            *(("plugins", it.plugins) for it in found.drivers),
            ("agent", found.agent_version),
            *_host(found),
            ("joined", moment(found.enrolled_at)),
            ("seen", moment(found.last_seen)),
            ("conflict", identity_in_use(found.hosts)),
            *(("host", _connected(it)) for it in found.hosts),
        )
    )


def register(root: typer.Typer) -> None:
    """Add `warren peers`."""
    root.add_typer(app, name="peers")
