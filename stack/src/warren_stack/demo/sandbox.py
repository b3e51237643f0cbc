"""The demo seen from outside: make the sandbox, wait for its report, look for leftovers, print.

Everything runs in namespaces of its own, so the machine's links, routes, firewall and ports stay as they are, with root and
without. What the sandbox may leave could only be files in one folder, mounts, or processes; those are looked for.
"""

import asyncio
import contextlib
import ctypes
import json
import os
import shutil
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console

from warren_lab.errors import LabError
from warren_lab.lab import can_make_namespaces
from warren_lab.process import bound_to_parent
from warren_lab.runtime import make_runtime_folder
from warren_lab.sandbox import in_sandbox
from warren_stack.demo.api import Api
from warren_stack.demo.relay import listen_tcp
from warren_stack.demo.report import DemoReport, places_text, report_from_object, report_object, report_tables
from warren_stack.demo.requirements import SEARCH_PATH, require
from warren_stack.ports import choose_port
from warren_stack.services import inherited_environment

REPORT_LIMIT_SECONDS = 300.0
"""The demo takes about half a minute on two cores; the limit is for a machine that hangs."""
STOP_LIMIT_SECONDS = 60.0
REPORT_BYTES = 1 << 20
SOCKET_NAME = "http.sock"
DEFAULT_DRIVER = "userspace"
_PR_SET_CHILD_SUBREAPER = 36


@dataclass(frozen=True)
class InsideOptions:
    """Options of the sandboxed half."""

    runtime: str
    examples: str
    report_descriptor: int
    keep: bool
    outside: int  # process id of the other half
    logs: str = ""  # where the logs are kept; empty: nowhere
    driver: str = DEFAULT_DRIVER


def examples_folder() -> Path:
    """The policies that the demo applies: in the wheel next to this package, in a checkout at its top.

    Raises:
        LabError: neither is there.
    """
    places = (Path(__file__).parents[1] / "examples", Path(__file__).parents[4] / "examples")
    for place in places:
        if (place / "hub-spoke.yaml").is_file():
            return place
    raise LabError("hub-spoke.yaml not found: name its folder with --examples")


@dataclass(frozen=True)
class DemoOptions:
    """What `warren demo` is asked for."""

    examples: Path
    keep: bool = False
    as_json: bool = False
    http_port: int = 8400
    logs: Path | None = None
    installed: tuple[str, ...] = ()  # Debian packages that the set-up installed just before
    driver: str = DEFAULT_DRIVER


async def demo(options: DemoOptions) -> int:
    """Run the demo; 0 when everything held."""
    require(options.driver)
    # Looked for before anything runs: the demo must not fail at its end for a taken port.
    port = choose_port("127.0.0.1", options.http_port, "--http-port") if options.keep else 0
    runtime = make_runtime_folder("warren-demo-")
    _adopt_orphans()
    report = DemoReport(error="the demo did not report")
    printed = False
    try:
        async with _sandbox(runtime, options) as (process, reported):
            report = _read(await _report_or_end(reported, process))
            report.installed = list(options.installed)
            if options.keep and not report.error:
                printed = True
                await _stay(process, runtime, report, options, port)
            else:
                with contextlib.suppress(TimeoutError):  # it has said its last word, and ends by itself
                    await asyncio.wait_for(process.wait(), STOP_LIMIT_SECONDS)
    except asyncio.CancelledError:  # Ctrl-C: the end that --keep waits for, and a failure before that
        report.error = report.error if printed else "it was stopped"
    finally:
        report.leftovers += _leftovers(runtime)
        shutil.rmtree(runtime, ignore_errors=True)
    if not printed or report.leftovers:
        _print(report, options.as_json)
    return 0 if report.ok else 1


@contextlib.asynccontextmanager
async def _sandbox(
    runtime: Path, wanted: DemoOptions
) -> AsyncIterator[tuple[asyncio.subprocess.Process, asyncio.StreamReader]]:
    """The sandboxed half as a process, and the pipe by which it reports. Leaving asks it to end and waits for that."""
    reported, read_end, write_end = await _pipe()
    options = InsideOptions(
        str(runtime), str(wanted.examples), write_end, wanted.keep, os.getpid(), str(wanted.logs or ""), wanted.driver
    )
    inside = [sys.executable, "-m", "warren_stack.demo.inside", json.dumps(asdict(options))]
    try:
        process = await asyncio.create_subprocess_exec(
            *in_sandbox(bound_to_parent(inside), own_user_namespace=not can_make_namespaces()),
            env={
                **inherited_environment(),
                "PATH": f"{os.environ.get('PATH', '')}:{SEARCH_PATH}",
                "TMPDIR": str(runtime),
            },
            stdin=asyncio.subprocess.DEVNULL,
            stdout=sys.stderr,
            pass_fds=(write_end,),
            start_new_session=True,
        )
    finally:
        os.close(write_end)
    try:
        yield process, reported
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(process.wait(), STOP_LIMIT_SECONDS)
        except TimeoutError:
            process.kill()
            await process.wait()
        read_end.close()


async def _pipe() -> tuple[asyncio.StreamReader, asyncio.ReadTransport, int]:
    read_end, write_end = os.pipe()
    reader = asyncio.StreamReader(limit=REPORT_BYTES)
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(read_end, "rb")
    )
    return reader, transport, write_end


async def _report_or_end(reported: asyncio.StreamReader, process: asyncio.subprocess.Process) -> bytes:
    """The one line of the report; empty where the sandbox ended without one."""
    try:
        return await asyncio.wait_for(reported.readline(), REPORT_LIMIT_SECONDS)
    except TimeoutError as error:
        raise LabError(
            f"the demo's sandbox (process {process.pid}) reported nothing for {REPORT_LIMIT_SECONDS:g} s"
        ) from error


def _read(line: bytes) -> DemoReport:
    if not line:
        return DemoReport(error="the demo's sandbox ended without a report; what it said stands above")
    return report_from_object(json.loads(line))


async def _stay(
    process: asyncio.subprocess.Process, runtime: Path, report: DemoReport, options: DemoOptions, port: int
) -> None:
    """Leave it running, reachable from this machine, until asked to stop."""
    async with await listen_tcp("127.0.0.1", port, runtime / SOCKET_NAME):
        url, token = f"https://127.0.0.1:{port}", runtime / "data" / "admin.token"
        where: dict[str, Any] = {"url": url, "token_file": str(token), "log": str(runtime / "data" / "log")}
        where["enter"] = f"{_entering()} --target {process.pid} --mount --net"
        async with Api(url, token) as api:
            path = await api.sign_in_path()
        where["page"] = f"{url}/" if path is not None else None
        where["sign_in"] = f"{url}{path}" if path is not None else None
        _print(report, options.as_json, where)
        await process.wait()


def _print(report: DemoReport, as_json: bool, where: dict[str, Any] | None = None) -> None:
    if as_json:
        print(json.dumps({**report_object(report), **(where or {})}), flush=True)
        return
    console = Console()
    console.print(report_tables(report))
    if report.error:
        console.print(f"The demo failed: {report.error}", style="bold red", markup=False, soft_wrap=True)
    else:
        console.print("Everything held." if report.ok else "Something did not hold.", style="bold")
    if where is not None:
        console.print(places_text(where, warren_command()), markup=False, soft_wrap=True)


def warren_command() -> str:
    """How a user calls the `warren` of this interpreter: `make demo` puts it into no PATH."""
    own = Path(sys.executable).with_name("warren")
    found = shutil.which("warren")
    return "warren" if found is not None and Path(found).resolve() == own.resolve() else str(own)


def _entering() -> str:
    """The program that enters the sandbox, from another terminal of the same user."""
    if os.geteuid() != 0:
        return "nsenter --user --preserve-credentials"
    return "nsenter" if shutil.which("sudo") is None else "sudo nsenter"


def _adopt_orphans() -> None:
    """Processes whose parents end become our children (prctl(2), PR_SET_CHILD_SUBREAPER), so that none is missed."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _leftovers(runtime: Path) -> list[str]:
    """What is still there: processes (they are ended now), files and mounts."""
    found = []
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            if child.status() != psutil.STATUS_ZOMBIE:
                found.append(f"process {child.pid} {child.name()}")
                child.kill()
            child.wait(5)
    found += [f"file {path.relative_to(runtime)}" for path in sorted(runtime.iterdir())]
    mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    found += [f"mount {line.split()[4]}" for line in mounts if str(runtime) in line]
    return found
