"""The verbs `up` and `demo`: their options. What they run is imported when they run."""

import os
from pathlib import Path
from typing import Annotated, Literal

import typer

from warren_cli.errors import CliError
from warren_cli.extras import needs

LOCAL = "warren-stack[local]"
INSTALLED = "WARREN_DEMO_INSTALLED"  # Debian packages that `make demo` installed, for the summary
LogLevel = Literal["debug", "info", "warning", "error"]

UP_HELP = """Run the whole of Warren on this machine: bus, database and every service, each its own process.

Everything is kept in the data folder; a second start picks it up again. Stop with Ctrl-C.

Examples:

  warren up

  warren up --data /srv/warren --bind 192.0.2.10 --advertise bus.example.net --http-port 8500

  warren up --json --http-port 0 --nats-port 0 --metrics-port 0
"""

DEMO_HELP = """See the whole product work: three gateways, one policy, tunnels, one edit.

The gateways run the userspace driver, or real strongSwan (--driver strongswan). Everything is in network namespaces of its own, with
root or without; nothing is left behind.

Examples:

  warren demo

  warren demo --keep

  warren demo --json | python3 -m json.tool
"""


def register_up(app: typer.Typer) -> None:
    """Add `warren up`."""
    app.command("up", help=UP_HELP)(up_command)


def register_demo(app: typer.Typer) -> None:
    """Add `warren demo`."""
    app.command("demo", help=DEMO_HELP)(demo_command)


def named_folder(text: str) -> Path:
    """A folder of the command line. `Path` would take an empty word, as of a variable that is not set, for the current one."""
    if not text.strip():
        raise typer.BadParameter("an empty word names no folder")
    return Path(text)


def up_command(
    data: Annotated[
        Path | None,
        typer.Option(
            help="Folder for everything that is kept.",
            parser=named_folder,
            metavar="PATH",
            show_default="/var/lib/warren for root, else ~/.local/share/warren",
        ),
    ] = None,
    bind: Annotated[str, typer.Option(help="Address that agents and operators reach this machine by.")] = "127.0.0.1",
    http_port: Annotated[int, typer.Option(min=0, max=65535, help="REST and events; 0: any free port.")] = 8400,
    nats_port: Annotated[int, typer.Option(min=0, max=65535, help="The bus; 0: any free port.")] = 4222,
    metrics_port: Annotated[int, typer.Option(min=0, max=65535, help="Prometheus; 0: any free port.")] = 9400,
    metrics_bind: Annotated[
        str, typer.Option(help="Address of Prometheus's port, which requires no token.")
    ] = "127.0.0.1",
    metrics_client_ca: Annotated[
        Path | None,
        typer.Option(help="CAs (PEM) of which a scraper must have a certificate (mTLS); the port is HTTPS then."),
    ] = None,
    advertise: Annotated[
        list[str] | None,
        typer.Option(
            help="Name or address by which agents and operators reach this machine; may be repeated.", metavar="HOST"
        ),
    ] = None,
    tls_cert: Annotated[
        Path | None, typer.Option(help="Your own certificate (PEM), with --tls-key and --tls-ca.")
    ] = None,
    tls_key: Annotated[Path | None, typer.Option(help="Its key (PEM).")] = None,
    tls_ca: Annotated[Path | None, typer.Option(help="The root CA (PEM) that vouches for it.")] = None,
    cleartext: Annotated[bool, typer.Option("--cleartext", help="No TLS; on the loopback only.")] = False,
    log_level: Annotated[LogLevel, typer.Option(help="Of every service, in DATA/log.", case_sensitive=False)] = "info",
    ready_limit: Annotated[float, typer.Option(min=1, help="Seconds after which a start has failed.")] = 60.0,
    as_json: Annotated[bool, typer.Option("--json", help="Say where to look as one JSON object.")] = False,
) -> None:
    """The options of `warren up`."""
    with needs("warren up", LOCAL):
        from warren_cli.folders import default_data_folder
        from warren_stack.signals import run_until_signalled
        from warren_stack.stack import StackOptions
        from warren_stack.tls.control_plane import OwnFiles, TlsOptions
        from warren_stack.up import up
    own = tuple(path.absolute() for path in (tls_cert, tls_key, tls_ca) if path is not None)
    if len(own) not in (0, 3):
        raise typer.BadParameter("--tls-cert, --tls-key and --tls-ca belong together: give all three")
    options = StackOptions(
        data=data if data is not None else default_data_folder(),
        bind=bind,
        http_port=http_port,
        nats_port=nats_port,
        metrics_port=metrics_port,
        metrics_bind=metrics_bind,
        metrics_client_ca=None if metrics_client_ca is None else metrics_client_ca.absolute(),
        log_level=log_level,
        ready_limit_seconds=ready_limit,
        tls=TlsOptions(tuple(advertise or ()), OwnFiles(*own) if own else None, cleartext),
    )
    raise typer.Exit(run_until_signalled(up(options, as_json)))


def demo_command(
    keep: Annotated[bool, typer.Option("--keep", help="Leave it running until Ctrl-C, and say where to look.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Say what happened as one JSON object.")] = False,
    http_port: Annotated[int, typer.Option(min=0, max=65535, help="With --keep: REST on 127.0.0.1.")] = 8400,
    logs: Annotated[Path | None, typer.Option(help="Keep the logs of all parts in this folder.")] = None,
    examples: Annotated[Path | None, typer.Option(help="Folder of the policies.", show_default=False)] = None,
    driver: Annotated[
        str, typer.Option(help="IPsec of the gateways: userspace, which needs no daemon, or strongswan.")
    ] = "userspace",
) -> None:
    """The options of `warren demo`."""
    if driver not in ("userspace", "strongswan"):
        raise typer.BadParameter(f"invalid driver {driver!r}: must be userspace or strongswan", param_hint="--driver")
    with needs("warren demo", LOCAL):
        from warren_lab.errors import LabError
        from warren_stack.demo.sandbox import DemoOptions, demo, examples_folder
        from warren_stack.signals import run_until_signalled
    try:
        options = DemoOptions(
            (examples or examples_folder()).absolute(), keep, as_json, http_port, logs.absolute() if logs else None,
            tuple(os.environ.get(INSTALLED, "").split()), driver,
        )  # fmt: skip
        code = run_until_signalled(demo(options))
    except (CliError, LabError) as error:
        typer.echo(f"warren demo: {error}", err=True)
        raise typer.Exit(1) from error
    raise typer.Exit(code)
