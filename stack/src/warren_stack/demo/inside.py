"""The sandboxed half of the demo: `python -m warren_stack.demo.inside OPTIONS`, started by `sandbox` and by nobody else."""

import asyncio
import contextlib
import json
import os
import shutil
import socket
import sys
from pathlib import Path

from warren_cli.errors import CliError
from warren_lab.errors import LabError
from warren_lab.lab import Lab
from warren_lab.namespace import NETNS_FOLDER
from warren_stack.demo.agents import Agents
from warren_stack.demo.api import Api
from warren_stack.demo.fleet import MANAGEMENT_ADDRESS, Gateway, build_fleet
from warren_stack.demo.relay import listen_unix
from warren_stack.demo.report import DemoReport, report_object
from warren_stack.demo.sandbox import SOCKET_NAME, InsideOptions
from warren_stack.demo.scenario import Scenario
from warren_stack.signals import run_until_signalled
from warren_stack.stack import Stack, StackOptions

HTTP_PORT = 8400


def say(text: str) -> None:
    """Progress, for people."""
    print(f"demo: {text}", file=sys.stderr, flush=True)


async def inside(options: InsideOptions) -> int:
    """Everything, then the report through the pipe; with `keep`, the report first and then wait."""
    report = DemoReport()
    data = Path(options.runtime) / "data"
    try:
        with Lab("wd") as lab:
            await _run(lab, options, report, data)
    except (CliError, LabError) as error:
        report.error = str(error)
    except asyncio.CancelledError:
        report.error = report.error or "it was stopped"
        raise
    finally:
        _put_away(data, Path(options.logs) if options.logs else None)
        if not options.keep or report.error:
            report.leftovers += _leftovers()
            _send(report, options.report_descriptor)
        if os.getppid() != options.outside:  # it was killed: nobody else removes the folder that it made
            shutil.rmtree(options.runtime, ignore_errors=True)
    return 0


async def _run(lab: Lab, options: InsideOptions, report: DemoReport, data: Path) -> None:
    stack_options = StackOptions(data, bind=str(MANAGEMENT_ADDRESS), http_bind="127.0.0.1", http_port=HTTP_PORT)
    async with contextlib.AsyncExitStack() as resources:
        gateways = build_fleet(lab, options.driver)
        say(f"three gateways and a router are made, with the {options.driver} driver")
        stack = await resources.enter_async_context(Stack(stack_options))
        say(f"the stack is ready ({stack.info.took_seconds:.2f} s)")
        report.steps.append(("the stack starts", stack.info.took_seconds))
        api = await resources.enter_async_context(Api(stack.info.url, stack.info.token_file))
        resources.callback(_collect_daemon_logs, gateways, data / "log")
        agents = Agents(gateways, stack.info.nats_url, data)
        resources.push_async_callback(agents.stop)
        scenario = Scenario(api, gateways, agents, Path(options.examples), report, say)
        await scenario.run()
        if options.keep:
            await _keep(scenario, options, report)


async def _keep(scenario: Scenario, options: InsideOptions, report: DemoReport) -> None:
    """Bring the tunnels up once more, report to the outside, and stay."""
    await scenario.apply("hub-spoke")
    path = Path(options.runtime) / SOCKET_NAME
    async with await listen_unix(path, "127.0.0.1", HTTP_PORT):
        _send(report, options.report_descriptor)
        try:
            await asyncio.Event().wait()
        finally:
            path.unlink(missing_ok=True)


def _send(report: DemoReport, descriptor: int) -> None:
    """One line of JSON through the pipe."""
    with contextlib.suppress(BrokenPipeError, OSError), os.fdopen(descriptor, "w") as pipe:
        pipe.write(json.dumps(report_object(report)) + "\n")


def _collect_daemon_logs(gateways: dict[str, Gateway], folder: Path) -> None:
    """The lab removes the daemons' folders; their logs go next to the others."""
    for name, gateway in gateways.items():
        (folder / f"{gateway.daemon.name}-{name}.log").write_text(gateway.daemon.log())


def _put_away(data: Path, logs: Path | None) -> None:
    """Remove DATA; its logs are kept first, in the folder that was asked for."""
    if logs is not None:
        shutil.copytree(data / "log", logs, dirs_exist_ok=True)
    shutil.rmtree(data, ignore_errors=True)


def _leftovers() -> list[str]:
    """What the lab and the stack should have removed from this sandbox."""
    namespaces = sorted(path.name for path in NETNS_FOLDER.iterdir()) if NETNS_FOLDER.is_dir() else []
    links = [name for _, name in socket.if_nameindex() if name != "lo"]
    return [f"namespace {name}" for name in namespaces] + [f"link {name}" for name in links]


def main() -> int:
    """The entry point."""
    return run_until_signalled(inside(InsideOptions(**json.loads(sys.argv[1]))))


if __name__ == "__main__":
    raise SystemExit(main())
