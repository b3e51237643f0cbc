"""What the demo found, as values: one JSON object, or tables for people. Pure."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from rich.console import Group
from rich.table import Column, Table
from rich.text import Text


@dataclass(frozen=True)
class DemoCheck:
    """One claim and whether it held."""

    claim: str
    held: bool
    detail: str = ""


@dataclass(frozen=True)
class TunnelFact:
    """A tunnel as its spoke sees it; SPIs in hexadecimal."""

    name: str
    peers: tuple[str, ...]
    state: str
    spi_in: str
    spi_out: str
    cipher: str


@dataclass(frozen=True)
class PingFact:
    """Pings from one spoke to the hub, from before the edit until after it."""

    tunnel: str
    sent: int
    received: int

    @property
    def lost(self) -> int:
        return self.sent - self.received


@dataclass(frozen=True)
class EditFact:
    """What one edited policy did: to the tunnel that it named, and to the other one."""

    changed: str
    untouched: str
    untouched_kept_spis: bool
    packets_lost: int  # of the untouched tunnel
    changed_packets_lost: int
    cipher_before: str
    cipher_after: str


@dataclass(frozen=True)
class Timings:
    """Milliseconds. `stored` counts from the request; the others from the commit."""

    stored: float
    delivered: float
    applied: float
    first_packet: float


@dataclass
class DemoReport:
    """Filled while the demo goes on."""

    checks: list[DemoCheck] = field(default_factory=list)
    steps: list[tuple[str, float]] = field(default_factory=list)  # what was done, seconds it took
    tunnels: list[TunnelFact] = field(default_factory=list)
    pings: list[PingFact] = field(default_factory=list)
    edit: EditFact | None = None
    timings: Timings | None = None
    leftovers: list[str] = field(default_factory=list)
    installed: list[str] = field(default_factory=list)  # Debian packages that the set-up of this demo installed
    error: str = ""

    @property
    def ok(self) -> bool:
        """Whether everything held; independent of any time."""
        return not self.error and not self.leftovers and bool(self.checks) and all(check.held for check in self.checks)

    def check(self, claim: str, held: bool, detail: str = "") -> None:
        self.checks.append(DemoCheck(claim, held, detail))


def report_object(report: DemoReport) -> dict[str, Any]:
    """The one JSON object of `warren demo --json`."""
    return {
        "ok": report.ok,
        "tunnels": [asdict(tunnel) | {"peers": list(tunnel.peers)} for tunnel in report.tunnels],
        "pings": {
            "sent": sum(ping.sent for ping in report.pings),
            "received": sum(ping.received for ping in report.pings),
        },
        "pings_by_tunnel": {ping.tunnel: {"sent": ping.sent, "received": ping.received} for ping in report.pings},
        "edit": asdict(report.edit) if report.edit else None,
        "timings_ms": asdict(report.timings) if report.timings else None,
        "checks": [asdict(check) for check in report.checks],
        "steps_s": {name: round(seconds, 3) for name, seconds in report.steps},
        "leftovers": list(report.leftovers),
        "installed_packages": list(report.installed),
        "error": report.error,
    }


def report_from_object(value: dict[str, Any]) -> DemoReport:
    """The report that `report_object` wrote; the sandbox adds its leftovers and prints it."""
    edit, timings = value["edit"], value["timings_ms"]
    report = DemoReport(
        checks=[DemoCheck(**check) for check in value["checks"]],
        steps=list(value["steps_s"].items()),
        tunnels=[TunnelFact(**{**tunnel, "peers": tuple(tunnel["peers"])}) for tunnel in value["tunnels"]],
        pings=[PingFact(tunnel, **counts) for tunnel, counts in value["pings_by_tunnel"].items()],
        edit=None if edit is None else EditFact(**edit),
        timings=None if timings is None else Timings(**timings),
        leftovers=list(value["leftovers"]),
        installed=list(value["installed_packages"]),
        error=value["error"],
    )
    return report


def report_tables(report: DemoReport) -> Group:
    """The same for people."""
    tables = [table for table in (_steps(report), _tunnels(report), _edit(report), _checks(report)) if table.row_count]
    return Group(*tables, *([_installed(report)] if report.installed else ()))


def _steps(report: DemoReport) -> Table:
    table = Table("step", Column("took", justify="right"), title="What happened")
    for step, seconds in report.steps:
        table.add_row(step, f"{seconds:.2f} s")
    if report.steps:
        table.add_row("all of it", f"{sum(seconds for _, seconds in report.steps):.2f} s", style="bold")
    return table


def _installed(report: DemoReport) -> Text:
    return Text(f"Installed Debian packages, which stay: {' '.join(report.installed)}")


def _tunnels(report: DemoReport) -> Table:
    table = Table("tunnel", "peers", "state", "SPI in", "SPI out", "cipher", title="Tunnels")
    for tunnel in report.tunnels:
        table.add_row(tunnel.name, " - ".join(tunnel.peers), tunnel.state, tunnel.spi_in, tunnel.spi_out, tunnel.cipher)
    return table


def _edit(report: DemoReport) -> Table:
    table = Table("what", "measured", title="One edited policy")
    if report.edit is not None:
        edit = report.edit
        table.add_row(f"{edit.changed} (edited)", f"{edit.cipher_before} -> {edit.cipher_after}")
        table.add_row(f"{edit.untouched} (not named)", "same SPIs" if edit.untouched_kept_spis else "NEW SPIs")
        table.add_row("packets lost, edited tunnel", str(edit.changed_packets_lost))
        table.add_row("packets lost, other tunnel", str(edit.packets_lost))
    for ping in report.pings if report.edit is not None else ():
        table.add_row(f"pings {ping.tunnel}".strip(), f"{ping.sent} sent, {ping.received} received")
    if report.timings is not None:
        timings = report.timings
        table.add_row("request to commit", f"{timings.stored:.0f} ms")
        table.add_row("commit to last agent's delivery", f"{timings.delivered:.0f} ms")
        table.add_row("commit to applied at both ends", f"{timings.applied:.0f} ms")
        table.add_row("commit to first reply under the new SPI", f"{timings.first_packet:.0f} ms")
    return table


def _checks(report: DemoReport) -> Table:
    table = Table("", "claim", "detail", title="Checks")
    for check in report.checks:
        table.add_row("[green]yes" if check.held else "[bold red]NO", check.claim, check.detail)
    if report.leftovers:
        table.add_row("[bold red]NO", "nothing is left behind", ", ".join(report.leftovers))
    return table


def places_text(where: Mapping[str, str | None], warren: str) -> str:
    """Where a demo that stays can be looked at. `warren`: how the command is called from another terminal."""
    page = [
        f"  page: {where['page']}",
        f"  sign in, once, within a minute: {where['sign_in']}",
        f"  another link: {warren} sign-in",
    ]
    if where["page"] is None:
        page = ["  the web page was not built: `make web` says why"]
    lines = (
        "It runs until Ctrl-C. Look at it, from another terminal:",
        *page,
        f"  export WARREN_URL={where['url']} WARREN_TOKEN_FILE={where['token_file']}",
        f"  {warren} tunnels",
        f"  logs: {where['log']}",
        f"  a shell inside: {where['enter']} (then: ip netns)",
    )
    return "\n".join(("", *lines))
