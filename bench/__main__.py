"""`make bench`: run all benchmarks, or those whose rows contain the words given by `--only`."""

from __future__ import annotations

import argparse
import importlib
import sys
from pathlib import Path

from harness import Bench, Row, write

ROOT = Path(__file__).resolve().parent
MODULES: tuple[str, ...] = (
    "fanout",
    "verify",
    "one_of_many",
    "agent_budget",
    "hostile",
    "reconnect",
    "guard",
    "metrics_exposition",
    "metrics_ingest",
    "cut_off",
    "expansion",
    "live_latency",
    "browser_page",
    "first_reading",
    "status_cli",
    "ikev2_esp",
    "ikev2_ike",
    "ikev2_endurance",
    "ikev2_tunnel",
    "ikev2_checks",
    "vpn_server",
)


def benches() -> list[Bench]:
    """All benchmarks, in the order of the table."""
    return [bench for name in MODULES for bench in importlib.import_module(name).BENCHES]


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("--only", default="", help="a row's name, or the beginning of several")
    parser.add_argument("--results", type=Path, default=ROOT.parent / "build" / "bench.json")
    arguments = parser.parse_args()
    chosen = [bench for bench in benches() if any(name.startswith(arguments.only) for name in bench.names)]
    if not chosen:
        names = ", ".join(name for bench in benches() for name in bench.names)
        print(f"no benchmark is named {arguments.only!r}; there are: {names}", file=sys.stderr)
        return 2
    rows: list[Row] = []
    for bench in chosen:
        print(f"running {', '.join(bench.names)} ...", file=sys.stderr, flush=True)
        for row in bench.run():
            print(f"  {row.name}: {row.ours} {row.unit}" + (f", {row.ratio} x {row.rival_name}" if row.ratio else ""))
            rows.append(row)
    write(rows, arguments.results, ROOT / "README.md")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
