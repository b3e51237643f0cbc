"""Runs one of a file's fuzz targets with atheris."""

import sys
from collections.abc import Callable, Mapping

import atheris


def run(targets: Mapping[str, Callable[[bytes], None]]) -> None:
    """Fuzz the target that the first argument names; libFuzzer reads the other arguments."""
    if len(sys.argv) < 2 or sys.argv[1] not in targets:
        sys.exit(f"usage: {sys.argv[0]} {{{','.join(targets)}}} [libFuzzer options]")
    target = targets[sys.argv.pop(1)]
    atheris.Setup(sys.argv, target)
    atheris.Fuzz()
