"""`warren ike`: what a gateway accepts, and what a capture says. The protocol is imported when it is asked for."""

import json
from pathlib import Path
from typing import Annotated

import typer

from warren_cli.errors import CliError
from warren_cli.extras import needs
from warren_cli.files import read_small_text
from warren_cli.terminal import echo

PROBE_HELP = """Probe which algorithms a gateway accepts, only by IKE_SA_INIT: no credentials are needed or sent.

Each address of a name is asked in turn, at port 500 and then at 4500, until one answers. The first question offers everything
and shows what would be chosen; --all asks for each algorithm alone; --legacy offers old ones, too. Nothing is left at the
gateway: what the first question opens is ended at once by a request that proves no identity, which the gateway logs as a failed
authentication. With --proposal, --profile or --policy the answer is compared with what you want.
Exit code 0: it answers (and what you want would be negotiated); 1: it would fail, or its answer breaks IKEv2;
2: no answer, or a closed port.

Examples:

  warren ike probe vpn.example.com

  warren ike probe vpn.example.com --all --json

  warren ike probe vpn.example.com --profile nist-800-77r1

  warren ike probe old-vpn.example.com --all --legacy
"""
DECODE_HELP = """List the IKE messages of a capture file (pcap or pcapng), and open them where the keys are given.

The key file is Wireshark's ikev2_decryption_table; a session of ours writes its line on request (Session.export_keys).

Examples:

  warren ike decode capture.pcap

  warren ike decode capture.pcap --keys ikev2_decryption_table --json
"""

MAX_TIMEOUT = 60.0
"""Seconds for one answer; a question is sent three times, and --all asks 26 more (with --legacy 46)."""


app = typer.Typer(no_args_is_help=True, help="Look at IKEv2: what a gateway accepts, what a capture holds.")
MAX_KEYS = 1_000_000  # bytes of Wireshark's table: four thousand IKE_SAs; the capture is read packet by packet
OTHER_EXIT = 1
SILENT_EXIT = 2


@app.command("probe", help=PROBE_HELP)
def probe_command(
    host: Annotated[str, typer.Argument(help="Name or address of the gateway.")],
    port: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=65535,
            help="Only this port; 4500 with the non-ESP marker. [default: 500, then 4500]",
            show_default=False,
        ),
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Probe every algorithm by itself.")] = False,
    legacy: Annotated[
        bool, typer.Option("--legacy", help="Ask for old algorithms, too: 3DES, SHA-1, MODP-1024, ...")
    ] = False,
    proposal: Annotated[list[str] | None, typer.Option(help="strongSwan's keywords; may be repeated.")] = None,
    profile: Annotated[str, typer.Option(help="Compare with a crypto profile.")] = "",
    policy: Annotated[Path | None, typer.Option(help="Compare with a policy file.", exists=True)] = None,
    timeout: Annotated[float, typer.Option(min=0.05, max=MAX_TIMEOUT, help="Seconds to wait for each answer.")] = 2.0,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """The options of `warren ike probe`."""
    with needs("warren ike", "warren-cli[ike]"):
        from warren_cli.ike.policy import requested_proposals
        from warren_cli.ike.probe import probe
        from warren_cli.ike.probe_report import render_report
        from warren_ikev2.errors import ConfigurationError
    try:
        requested = requested_proposals(proposal or [], profile, policy)
        report = probe(host, port, every=every, requested=requested, timeout=timeout, legacy=legacy)
    except OSError as error:
        echo(f"warren ike probe: {host}: {error.strerror or error}", err=True)
        raise typer.Exit(OTHER_EXIT) from error
    except (ConfigurationError, ValueError) as error:
        typer.echo(f"warren ike probe: {error}", err=True)
        raise typer.Exit(OTHER_EXIT) from error
    typer.echo(json.dumps(report.as_dict(), indent=2) if as_json else render_report(report))
    if not report.answered:
        raise typer.Exit(SILENT_EXIT)
    if report.would_fail or report.broken:
        raise typer.Exit(OTHER_EXIT)


@app.command("decode", help=DECODE_HELP)
def decode_command(
    file: Annotated[Path, typer.Argument(help="pcap or pcapng.", exists=True, dir_okay=False)],
    keys: Annotated[
        Path | None, typer.Option(help="Wireshark's ikev2_decryption_table.", exists=True, dir_okay=False)
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """The options of `warren ike decode`."""
    with needs("warren ike", "warren-cli[ike]"):
        from warren_cli.ike.decode import CaptureSummary, as_json_line, decode_file, render_message
        from warren_ikev2.errors import IkeError
    seen = CaptureSummary()
    try:
        lines = read_small_text(keys, "the keys", MAX_KEYS) if keys else ""
        with file.open("rb") as packets:
            for message in decode_file(packets, lines, seen):
                echo(as_json_line(message) if as_json else render_message(message))
    except BrokenPipeError:
        raise
    except (IkeError, CliError, OSError) as error:
        said = f"{file}: {error.strerror}" if isinstance(error, OSError) else str(error)
        echo(f"warren ike decode: {said}", err=True)
        raise typer.Exit(OTHER_EXIT) from error
    for remark in seen.remarks():
        echo(f"warren ike decode: {remark}", err=True)


def register(root: typer.Typer) -> None:
    """Add `warren ike`."""
    root.add_typer(app, name="ike")
