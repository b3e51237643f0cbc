"""Build the web page: types from docs/openapi.json, the checker, the unit tests, the bundle; then measure and install it.

Example:

  python -m warren_tools.page web build/web

Everything that is made lies in the second folder. What the build read is remembered there, so that an unchanged page is not built again.
The result goes to `share/warren/page` of this Python environment, where the API server finds it. Exit code 2: npm reaches no registry.
"""

import gzip
import json
import re
import shutil
import sys
from hashlib import sha256
from pathlib import Path
from typing import Any

from warren_tools.node_packages import install, run

FIRST_LOAD_LIMIT = 160_000  # bytes compressed: what a browser loads before it shows the fleet
STEP_SECONDS = 300.0
NOT_INSTALLED = 2
# The API's document, and the cases of the query language that every implementation must pass.
DATA = (Path("docs/openapi.json"), Path("tests/data/tunnel-queries.json"))
ENUMERATIONS = {"TunnelState": "TUNNEL_STATES", "ReasonCode": "REASON_CODES"}
STEPS = (
    ("types", ("node_modules/openapi-typescript/bin/cli.js", "../openapi.json", "--output", "src/lib/api/schema.d.ts")),
    ("check", ("node_modules/svelte-check/bin/svelte-check", "--tsconfig", "./tsconfig.json", "--fail-on-warnings")),
    ("unit tests", ("node_modules/vitest/vitest.mjs", "run", "--reporter=dot")),
    ("bundle", ("node_modules/vite/bin/vite.js", "build", "--logLevel", "warn")),
)
SHRINKS = (".js", ".css", ".html", ".svg")
_LOADED_FIRST = re.compile(r"""(?:src|href)="/([^"]+\.(?:js|css|svg))\"""")


class BuildError(Exception):
    """A step of the build failed; its output is above."""


def main() -> int:
    source, built = map(Path, sys.argv[1:])
    state = _digest([*DATA, *_files(source)])
    page, stamp, installed = built / "page", built / "built", Path(sys.prefix) / "share" / "warren" / "page"
    try:
        if not stamp.exists() or stamp.read_text() != state or not page.is_dir():
            if failed := install(source, built / "work"):
                print(f"{failed}: the web page was not built", file=sys.stderr)
                return NOT_INSTALLED
            _build(source, built / "work")
            _publish(built / "work" / "dist", page)
            stamp.write_text(state)
        size = first_load(page)
        if size > FIRST_LOAD_LIMIT:
            raise BuildError(f"the first load has {size:,} bytes compressed, the limit is {FIRST_LOAD_LIMIT:,}")
    except BuildError as error:
        print(f"web page: {error}", file=sys.stderr)
        return 1
    _replace(page, installed)
    print(f"web page: {installed} ({size / 1_000:.1f} kB compressed at the first load)")
    return 0


def first_load(page: Path) -> int:
    """The bytes that a browser loads before it shows the fleet, compressed: the index, and what it and its scripts import at once."""
    index = page / "index.html"
    waiting, seen = {"index.html", *_LOADED_FIRST.findall(index.read_text())}, set[str]()
    while waiting:
        name = waiting.pop()
        seen.add(name)
        if name.endswith(".js"):
            imported = re.findall(r"""(?:from|import)\s*["']\./([^"']+\.js)["']""", (page / name).read_text())
            waiting |= {str(Path(name).with_name(it)) for it in imported} - seen
    return sum(min(path.stat().st_size for path in _forms(page / name)) for name in seen)


def _forms(path: Path) -> list[Path]:
    return [form for form in (path, path.with_name(f"{path.name}.gz")) if form.is_file()]


def _files(source: Path) -> list[Path]:
    left_out = {"node_modules", "dist"}
    return sorted(path for path in source.rglob("*") if path.is_file() and not left_out & set(path.parts))


def _digest(paths: list[Path]) -> str:
    digest = sha256()
    for path in paths:
        digest.update(f"{path}\n".encode() + sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def _build(source: Path, work: Path) -> None:
    for left in ("src", "tests", "public", "dist"):
        shutil.rmtree(work / left, ignore_errors=True)
    for path in _files(source):
        copy = work / path.relative_to(source)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy)
    for path in DATA:
        shutil.copyfile(path, work.parent / path.name)
    (work / "src/lib/api/values.ts").write_text(_values(json.loads(DATA[0].read_text())["components"]["schemas"]))
    for name, command in STEPS:
        if run(command, work, STEP_SECONDS).returncode:
            raise BuildError(f"{name} failed")


def _values(schemas: dict[str, Any]) -> str:
    """The words of the API that the page needs at run time, and not as types only."""
    lines = [
        f"export const {name} = {json.dumps(schemas[schema]['enum'])} as const" for schema, name in ENUMERATIONS.items()
    ]
    return "// Generated from docs/openapi.json.\n" + "\n".join(lines) + "\n"


def _publish(dist: Path, page: Path) -> None:
    """Compress what shrinks, and put the result in its place."""
    for path in [path for path in dist.rglob("*") if path.suffix in SHRINKS]:
        packed = gzip.compress(path.read_bytes(), 9, mtime=0)
        if len(packed) < path.stat().st_size:
            path.with_name(f"{path.name}.gz").write_bytes(packed)
    _replace(dist, page)


def _replace(source: Path, target: Path) -> None:
    new = target.with_name(f"{target.name}.new")
    shutil.rmtree(new, ignore_errors=True)
    shutil.copytree(source, new)
    shutil.rmtree(target, ignore_errors=True)
    new.rename(target)


if __name__ == "__main__":
    sys.exit(main())
