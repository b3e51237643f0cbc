"""`warren up`: the stack in the foreground, until it is asked to stop."""

import asyncio
import contextlib
import json
import sys

from warren_cli.errors import CliError
from warren_lab.errors import LabError
from warren_stack.folders import DataFolder
from warren_stack.stack import Stack, StackInfo, StackOptions
from warren_stack.supervisor import PartState

RESTORED = (
    "Warren runs, and publishes nothing: its database is older than what was published, as after a restore from a backup.\n"
    "`warren health` says what; `warren epoch advance` announces a new epoch and ends it."
)


def remark(words: str) -> None:
    """One line on standard error while the stack runs; a terminal that is gone or full stops nothing."""
    with contextlib.suppress(OSError, ValueError):
        print(f"warren: {words}", file=sys.stderr, flush=True)


async def up(options: StackOptions, as_json: bool) -> int:
    """Start, say where to look, and stay until cancelled."""
    ready = False

    def notify(name: str, state: PartState) -> None:
        log = DataFolder(options.data).log / f"{name}.log"
        if state is PartState.WAITING:
            remark(f"{name} ended; it is restarted (see {log})")
        elif state is PartState.FAULTY:
            fault = stack.supervisor.parts[name].part.fault
            remark(f"{fault.remark if fault else name} (see {log})")

    stack = Stack(options, notify, remark)
    try:
        async with stack:
            print(json.dumps(info_object(stack.info)) if as_json else info_text(stack.info), flush=True)
            ready = True
            await asyncio.Event().wait()
    except (CliError, LabError) as error:
        print(f"warren up: {error}", file=sys.stderr)
        return 1
    finally:
        if ready and not as_json:
            with contextlib.suppress(OSError):  # the reader may be gone
                print("Warren has stopped.", flush=True)
    return 0


def info_object(info: StackInfo) -> dict[str, object]:
    """The one JSON object of `warren up --json`."""
    return {
        "ready": not info.restored,
        "restored": info.restored,
        "url": info.url,
        "nats_url": info.nats_url,
        "metrics_url": info.metrics_url,
        "token_file": str(info.token_file),
        "ca_file": str(info.ca_file),
        "data": str(info.data),
        "log": str(info.log),
        "took_ms": round(info.took_seconds * 1000),
    }


def info_text(info: StackInfo) -> str:
    """Where to look, for people."""
    return "\n".join(
        [
            *([RESTORED] if info.restored else [f"Warren is ready ({info.took_seconds:.1f} s)."]),
            f"  API       {info.url}/api (health: {info.url}/api/health)",
            f"  page      {info.url}/ (`warren sign-in` prints a link; a checkout builds it by `make web`)",
            f"  bus       {info.nats_url}",
            f"  metrics   {info.metrics_url}",
            f"  token     {info.token_file}",
            f"  CA        {info.ca_file} (next to the token; elsewhere name it with --ca-file)",
            f"  logs      {info.log}",
            "Operators, in another terminal:",
            f"  export WARREN_URL={info.url} WARREN_TOKEN_FILE={info.token_file}",
            "  warren peers",
            "Ctrl-C stops everything.",
        ]
    )
