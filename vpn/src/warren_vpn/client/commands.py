"""`warren vpn client`, `down` and `restore`, and the client's part of `warren vpn status`. The parts are imported when they run."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from warren_cli.errors import CliError
from warren_cli.terminal import echo
from warren_vpn.client.platform import check_platform
from warren_vpn.verbs import done

if TYPE_CHECKING:
    from warren_vpn.host.plan import KillSwitch
    from warren_vpn.profiles.profile import ClientProfile

CLIENT_HELP = """Connect to a VPN server and stay connected.

It runs in the foreground, until Ctrl-C, SIGTERM or `warren vpn down`. The profile (JSON or TOML) names the servers in order of
preference, and what goes through the tunnel. Routes, DNS and the kill switch are put back when the client stops; after kill -9,
at its next start or by `warren vpn restore`. A password is asked for without echo, or read from --password-file (- is standard
input). Linux only, as root (or with CAP_NET_ADMIN).

Examples:

  warren vpn client --profile office.json

  warren vpn client --profile office.json --kill-switch always

  warren vpn client --profile office.json --password-file /run/vpn --json
"""
DOWN_HELP = """Stop the client; end the kill switch too.

Routes, DNS and the kill switch are put back. Without a running client the same as `warren vpn restore`.

Example:

  warren vpn down
"""
RESTORE_HELP = """Put back what a killed client has left.

These are routes, DNS and the kill switch.

Example:

  warren vpn restore
"""
LOAD_HELP = """Load the last client's kill switch at boot.

It is put into force again as the client has left it, after a restart of the machine: before any network is up, from a systemd
unit (docs/vpn.md). Without a kill switch it does nothing, and with a client that runs neither: that one has its own.

Example:

  warren vpn load-kill-switch
"""
DEFAULT_STATE = Path("/var/lib/warren-vpn-client")

State = Annotated[Path, typer.Option(help="Folder of the client's journal and control socket.", readable=False)]


def register(app: typer.Typer) -> None:
    """Add the verbs to `warren vpn`."""
    app.command("client", help=CLIENT_HELP)(client_command)
    app.command("down", help=DOWN_HELP)(down_command)
    app.command("restore", help=RESTORE_HELP)(restore_command)
    app.command("load-kill-switch", help=LOAD_HELP)(load_command)


def client_command(
    profile: Annotated[Path, typer.Option(help="The profile's file.", show_default=False)],
    password_file: Annotated[
        Path | None, typer.Option(help="File with the password; - is standard input.", show_default=False)
    ] = None,
    kill_switch: Annotated[
        str | None,
        typer.Option(
            help="off; when-up (from the first connection until the client stops); always (from the start until"
            " `warren vpn down`). Without it: always if the profile has kill_switch, else off.",
            show_default=False,
        ),
    ] = None,
    device: Annotated[str, typer.Option(help="Name of the TUN device.")] = "warren-vpn0",
    hold_down: Annotated[
        float, typer.Option(min=1, help="Seconds on a less preferred server until the preferred one is tried again.")
    ] = 300.0,
    state: State = DEFAULT_STATE,
    resolv_conf: Annotated[Path, typer.Option(help="The resolver's file.")] = Path("/etc/resolv.conf"),
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object for each event.")] = False,
) -> None:
    """The options of `warren vpn client`."""
    done("client", check_platform)
    import asyncio

    from warren_vpn.client.client import ClientOptions
    from warren_vpn.client.connection import Credentials
    from warren_vpn.client.events import print_json, print_text
    from warren_vpn.client.run import HostOptions, check_free, run_client
    from warren_vpn.profiles.credentials import local_auth, remote_auth
    from warren_vpn.profiles.files import read_profile

    def run() -> int:
        wanted = read_profile(profile)
        options = ClientOptions(_kill_switch(wanted, kill_switch), hold_down)
        host = HostOptions(state, _device(device), resolv_conf)
        check_free(state)  # before a password is asked for
        password = _read_password(wanted, password_file)
        credentials = Credentials(local_auth(wanted, profile.parent, password), remote_auth(wanted))
        return asyncio.run(run_client(wanted, credentials, options, host, print_json if as_json else print_text))

    raise typer.Exit(done("client", run))


def down_command(state: State = DEFAULT_STATE) -> None:
    """The options of `warren vpn down`."""
    done("down", check_platform)
    from warren_vpn.client.control import ask, wait_stopped

    def stop() -> str:
        if ask(state, "down") is None:
            return _restore(state)
        wait_stopped(state)
        return "stopped; routes, DNS and kill switch are put back"

    echo(done("down", stop))


def restore_command(state: State = DEFAULT_STATE) -> None:
    """The options of `warren vpn restore`."""
    done("restore", check_platform)
    echo(done("restore", lambda: _restore(state)))


def load_command(state: State = DEFAULT_STATE) -> None:
    """The options of `warren vpn load-kill-switch`."""
    done("load-kill-switch", check_platform)
    echo(done("load-kill-switch", lambda: _load(state)))


def _load(state: Path) -> str:
    import asyncio

    from warren_vpn.client.run import load_kill_switch
    from warren_vpn.host.errors import ClientRunningError

    if not state.exists():
        return "no client has run on this host"
    try:
        loaded = asyncio.run(load_kill_switch(state))
    except ClientRunningError:
        return "a client runs, with its own"
    return "in force until `warren vpn down`" if loaded else "the last client has left no kill switch"


def _restore(state: Path) -> str:
    import asyncio

    from warren_vpn.client.events import print_text
    from warren_vpn.client.run import restore_host

    restored = asyncio.run(restore_host(state, print_text))
    return "put back what a former client left" if restored else "nothing to put back"


def client_status(state: Path = DEFAULT_STATE) -> dict[str, Any] | None:
    """What the running client says of itself; None if none runs. CliError: it does not answer, or has another version."""
    from warren_vpn.client.control import ask
    from warren_vpn.client.show import check_status

    status = ask(state, "status")
    return None if status is None else check_status(status)


def _read_password(profile: "ClientProfile", file: Path | None) -> str | None:
    """The password of a profile that needs one. CliError: there is none, or none is needed."""
    from warren_cli.files import read_small_text
    from warren_vpn.profiles.profile import PasswordLogin
    from warren_vpn.users.prompt import MAX_LINE, read_password

    if not isinstance(profile.login, PasswordLogin):
        if file is not None:
            raise CliError(f"--password-file: the profile {profile.name!r} logs in by a key, not by a password")
        return None
    if file is None or str(file) == "-":
        return read_password(f"Password of {profile.login.user}", confirm=False)
    lines = read_small_text(file, "the password", MAX_LINE).splitlines()
    if len(lines) != 1 or not lines[0]:
        raise CliError(f"--password-file: {file}: must hold the password of {profile.login.user}, in one line")
    return lines[0]


def _kill_switch(profile: "ClientProfile", option: str | None) -> "KillSwitch":
    match option:
        case None:
            return "always" if profile.kill_switch else "off"
        case "off" | "when-up" | "always":
            return option
        case _:
            raise CliError("--kill-switch: must be one of off, when-up, always")


def _device(name: str) -> str:
    from warren_vpn.host.changes import LinkChange

    try:
        return LinkChange(device=name).device
    except ValueError:
        raise CliError(f"--device: invalid name {name!r}: 1 to 15 characters of a-z, A-Z, 0-9, _ . and -") from None
