"""`own_venv.py FOLDER REQUIREMENTS`: install a tool of the tests into a virtual environment of its own: its requirements are not ours.

Nothing is done if FOLDER has them. Where pip fails, that is said, and the exit code is 0: the tests that need them say so, too.
"""

import subprocess
import sys
import venv
from pathlib import Path

LIMIT_SECONDS = 300.0


def main() -> None:
    folder, requirements = map(Path, sys.argv[1:])
    ready, wanted = folder / ".ready", requirements.read_bytes()
    if ready.exists() and ready.read_bytes() == wanted:
        return
    # Every version is pinned, so there is nothing to resolve.
    options = ["-qq", "--disable-pip-version-check", "--no-deps", "--no-compile", "-r", str(requirements)]
    command = [sys.executable, "-m", "pip", "--python", str(folder / "bin" / "python"), "install", *options]
    try:
        venv.create(folder, clear=True)
        done = subprocess.run(command, timeout=LIMIT_SECONDS, check=False)
        failed = f"pip ended with exit code {done.returncode}" if done.returncode else ""
    except subprocess.TimeoutExpired:
        failed = f"pip took more than {LIMIT_SECONDS:g} s"
    except subprocess.CalledProcessError:
        failed = "the virtual environment cannot be made"
    if failed:
        print(f"{failed}: what needs {folder} cannot run", file=sys.stderr)
        return
    ready.write_bytes(wanted)


if __name__ == "__main__":
    main()
