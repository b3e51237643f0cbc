"""Runs one of a file's fuzz targets with atheris."""

import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import atheris


def run(targets: Mapping[str, Callable[[bytes], None]], seeds: Mapping[str, Iterable[bytes]] | None = None) -> None:
    """Fuzz the target that the first argument names; libFuzzer reads the other arguments.

    Its `seeds` are written to a folder of its name in the working directory, where libFuzzer also adds what it finds.
    """
    if len(sys.argv) < 2 or sys.argv[1] not in targets:
        sys.exit(f"usage: {sys.argv[0]} {{{','.join(targets)}}} [libFuzzer options]")
    name = sys.argv.pop(1)
    if seeds and name in seeds:
        folder = Path(name)
        folder.mkdir(exist_ok=True)
        for number, seed in enumerate(seeds[name]):
            (folder / f"seed-{number}").write_bytes(seed)
        sys.argv.append(str(folder))
    atheris.Setup(sys.argv, targets[name])
    atheris.Fuzz()
