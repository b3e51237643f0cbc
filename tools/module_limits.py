"""Check the sizes of modules, classes and functions: past a limit there usually is a second idea, which belongs in a place of its own.

  module     350 lines, unless `tools/module-limits.toml` grants it more and gives the reason
  class      25 methods; not in tests
  function   7 parameters without self, not in tests; a CLI verb has one for each of its options

Example:

  python tools/module_limits.py
"""

import ast
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LIMIT_LINES = 350
LIMIT_METHODS = 25
LIMIT_PARAMETERS = 7
Function = ast.FunctionDef | ast.AsyncFunctionDef


def main() -> int:
    """Print what is beyond its limit; returns the exit code."""
    granted = tomllib.loads((ROOT / "tools" / "module-limits.toml").read_text())
    paths = subprocess.run(
        ["git", "ls-files", "*.py"],
        cwd=ROOT, check=True, capture_output=True, text=True,
    ).stdout.split()  # fmt: skip
    texts = {path: (ROOT / path).read_text() for path in paths if (ROOT / path).is_file()}
    lengths = {path: len(text.splitlines()) for path, text in texts.items()}
    wrong = [
        f"{path}: {lines} lines, the limit is {limit}: find the second idea in it"
        for path, lines in lengths.items()
        if lines > (limit := granted.get(path, {}).get("lines", LIMIT_LINES))
    ]
    wrong += [
        f"{path}: no longer needs its entry in tools/module-limits.toml"
        for path in granted
        if lengths.get(path, 0) <= LIMIT_LINES
    ]
    wrong += [f"{path}:{line}" for path, text in texts.items() if "/src/" in path for line in findings(text)]
    print("\n".join(wrong), file=sys.stderr, end="\n" if wrong else "")
    return 1 if wrong else 0


def findings(text: str) -> Iterator[str]:
    """The classes and functions of a module that are beyond their limits, each with its line."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ClassDef):
            methods = sum(isinstance(it, Function) for it in node.body)
            if methods > LIMIT_METHODS:
                yield f"{node.lineno}: {node.name}: {methods} methods, the limit is {LIMIT_METHODS}: find the second idea in it"
        elif isinstance(node, Function) and not _is_verb(node):
            given = node.args
            names = [it.arg for it in (*given.posonlyargs, *given.args, *given.kwonlyargs)]
            parameters = len(names) - (names[:1] in (["self"], ["cls"]))
            if parameters > LIMIT_PARAMETERS:
                yield (
                    f"{node.lineno}: {node.name}: {parameters} parameters, the limit is {LIMIT_PARAMETERS}:"
                    " what belongs together is a class"
                )


def _is_verb(function: Function) -> bool:
    """Whether a function is a verb of the command line, or the callback of a group of them."""
    calls = (it.func for it in function.decorator_list if isinstance(it, ast.Call))
    registered = any(isinstance(it, ast.Attribute) and it.attr in ("command", "callback") for it in calls)
    return registered or function.name.endswith("_command")


if __name__ == "__main__":
    sys.exit(main())
