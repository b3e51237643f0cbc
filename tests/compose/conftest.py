"""A Docker engine of its own, the images, and the deployment, in the sandbox that `tests/compose/run.sh` makes."""

import json
import os
import signal
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from warren_cli.folders import CA_NAME
from warren_lab.process import bound_to_parent, stop_process, wait_until

REPOSITORY = Path(__file__).parents[2]
DEPLOYMENT = REPOSITORY / "deploy/compose/compose.yaml"
WHEELS = REPOSITORY / "build/wheels"
ROOT = REPOSITORY / "build/bookworm"
SOCKET = "unix:///run/docker.sock"
HTTP = "https://127.0.0.1:8400"
READY_LIMIT_SECONDS = 90.0
ENGINE_LIMIT_SECONDS = 60.0
COMMAND_LIMIT_SECONDS = 600.0
"""Building the image takes half a minute on two idle cores."""
OFFLINE = ("PIP_NO_INDEX=1", "PIP_FIND_LINKS=/src/build/wheels")
BASE, NATS, POSTGRES, WARREN = (f"warren-{name}:test" for name in ("base", "nats", "postgres", "services"))
SETTINGS = {
    "WARREN_IMAGE": WARREN,
    "WARREN_BASE": BASE,
    "WARREN_BUILD_BASE": BASE,
    "WARREN_NATS_IMAGE": NATS,
    "WARREN_POSTGRES_IMAGE": POSTGRES,
    "WARREN_ADVERTISE": "198.18.0.1",  # as gateways of the lab reach this machine
}


class Engine:
    """Docker and compose commands against the engine of this sandbox."""

    def __init__(self) -> None:
        inherited = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        self.environment = {**inherited, "DOCKER_HOST": SOCKET, "DOCKER_BUILDKIT": "0", **SETTINGS}
        plugin = self.run("docker", "compose", "version", check=False).returncode == 0
        self.verb = (*(("docker", "compose") if plugin else ("docker-compose",)), "--file", str(DEPLOYMENT))

    def docker(self, *arguments: str, check: bool = True) -> str:
        """What docker prints."""
        return self.run("docker", *arguments, check=check).stdout

    def compose(self, *arguments: str) -> str:
        """What docker compose prints, on standard output and error, about the deployment as it is shipped."""
        done = self._compose(*arguments)
        return done.stdout + done.stderr

    def execute(self, service: str, *command: str) -> str:
        """What a command prints that runs in the container of a service."""
        return self._compose("exec", "-T", service, *command).stdout

    def _compose(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self.run(*self.verb, *arguments)

    def inspect(self, thing: str, *kind: str) -> dict[str, Any]:
        """All that docker knows of a container, volume or image."""
        found: list[dict[str, Any]] = json.loads(self.docker(*kind, "inspect", thing))
        return found[0]

    def run(self, *argv: str, check: bool = True, folder: Path = REPOSITORY) -> subprocess.CompletedProcess[str]:
        """A command that asks this engine."""
        done = subprocess.run(
            argv, env=self.environment, cwd=folder, capture_output=True, text=True,
            timeout=COMMAND_LIMIT_SECONDS, check=False,
        )  # fmt: skip
        if check and done.returncode != 0:
            said = "\n".join((done.stdout + done.stderr).splitlines()[-30:])
            pytest.fail(f"{' '.join(argv)}: exit code {done.returncode}\n{said}")
        return done


@pytest.fixture(scope="session")
def engine() -> Iterator[Engine]:
    """dockerd, ended by its id."""
    folder = Path(os.environ["WARREN_TEST_ENGINE"])
    command = ["dockerd", "--host", SOCKET, "--data-root", str(folder / "data"), "--storage-driver", "overlay2"]
    command += ["--exec-root", "/run/docker", "--pidfile", "/run/docker.pid"]
    command += ["--exec-opt", "native.cgroupdriver=cgroupfs", "--cgroup-parent", f"/{folder.name}"]
    log = folder / "dockerd.log"
    with log.open("wb") as output:
        process = subprocess.Popen(bound_to_parent(command), stdout=output, stderr=output, start_new_session=True)
    try:
        made = Engine()
        try:
            wait_until(lambda: bool(made.docker("info", "--format", "{{.ServerVersion}}", check=False).strip()),
                       "the Docker engine answers", ENGINE_LIMIT_SECONDS, process.pid)  # fmt: skip
        except Exception as error:
            error.add_note(log.read_text(errors="replace")[-2000:])
            raise
        yield made
    finally:
        stop_process(process, limit_seconds=60)


@pytest.fixture(scope="session")
def images(engine: Engine) -> None:
    """The base by `docker import`, NATS and PostgreSQL of it, and Warren's image as compose.yaml builds it."""
    with subprocess.Popen(["tar", "-C", str(ROOT), "-c", "."], stdout=subprocess.PIPE) as archive:
        subprocess.run(
            ["docker", "import", "-", BASE],
            stdin=archive.stdout,
            env=engine.environment,
            check=True,
            stdout=subprocess.DEVNULL,
        )
    for target, image in (("nats", NATS), ("postgres", POSTGRES)):
        dockerfile = str(Path(__file__).parent / "images/Dockerfile")
        engine.docker(
            "build",
            "--file",
            dockerfile,
            "--target",
            target,
            "--build-arg",
            f"BASE={BASE}",
            "--tag",
            image,
            str(WHEELS),
        )
    arguments = [word for value in OFFLINE for word in ("--build-arg", value)]
    engine.compose("build", *arguments)


class Stack:
    """The deployment, and an operator on this machine."""

    def __init__(self, engine: Engine, token: Path) -> None:
        self.engine = engine
        self.token = token
        self.authority = token.parent / CA_NAME  # where the command looks for it

    def up(self) -> None:
        """Start what is not running, and wait until everything says that it is ready."""
        self.engine.compose("up", "--detach", "--no-build")
        self.authority.parent.mkdir(exist_ok=True)
        self.authority.write_text(self.engine.execute("api", "cat", "/run/warren/ca.pem"))
        wait_until(lambda: self.health().get("ready", False), f"{HTTP}/api/health", READY_LIMIT_SECONDS)

    def health(self) -> dict[str, Any]:
        """What the API server says of itself and everybody; nothing while it is unavailable."""
        try:
            verify = ssl.create_default_context(cafile=str(self.authority)) if self.authority.exists() else True
            reply = httpx.get(f"{HTTP}/api/health", timeout=5, trust_env=False, verify=verify)
            return dict(reply.json())
        except (httpx.HTTPError, ValueError):
            return {}

    def container(self, service: str) -> dict[str, Any]:
        """What docker knows of the container of a service."""
        [name] = self.engine.docker(
            "ps", "--all", "--quiet", "--filter", f"label=com.docker.compose.service={service}",
            "--filter", "label=com.docker.compose.project=warren",
        ).split()  # fmt: skip
        return self.engine.inspect(name)

    def check(self, service: str, probe: str) -> tuple[int, str]:
        """The exit code of a container's own health check, run now, and what it says."""
        done = self.engine.run("docker", "exec", self.container(service)["Id"], probe, check=False)
        return done.returncode, done.stderr.strip()

    def crash(self, service: str) -> None:
        """End its first process as a crash would, and wait until docker has started another."""
        before = self.container(service)
        os.kill(before["State"]["Pid"], signal.SIGKILL)
        wait_until(lambda: self._started_after(service, before), f"docker starts {service} again", READY_LIMIT_SECONDS)

    def _started_after(self, service: str, before: dict[str, Any]) -> bool:
        now = self.container(service)
        return bool(now["RestartCount"] > before["RestartCount"] and now["State"]["Running"])

    def shell(self, commands: str, folder: Path) -> None:
        """Commands as docs/deploy.md has them, in a folder of the operator's: with this compose and this image."""
        script = commands.replace("docker compose -f deploy/compose/compose.yaml", " ".join(self.engine.verb))
        script = script.replace("warren:latest", WARREN)
        self.engine.run("sh", "-euc", script, folder=folder)

    def warren(self, *arguments: str) -> str:
        """What the command prints for an operator with an admin's token."""
        done = self.tried(*arguments)
        assert done.returncode == 0, f"warren {' '.join(arguments)}: {done.stdout}{done.stderr}"
        return done.stdout

    def serves(self) -> bool:
        """Whether an operator can ask every service now (health may be a second old)."""
        verbs = (("health",), ("peers",), ("tunnels",), ("policy", "list"))
        return all(self.tried(*verb).returncode == 0 for verb in verbs)

    def tried(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """The command with an admin's token, however it ends."""
        environment = {"PATH": os.environ["PATH"], "WARREN_URL": HTTP, "WARREN_TOKEN_FILE": str(self.token)}
        return subprocess.run(
            [str(Path(sys.executable).with_name("warren")), *arguments],
            env=environment, cwd=REPOSITORY, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip

    def listing(self, *arguments: str) -> list[dict[str, Any]]:
        """A listing of the command, read by a program."""
        return list(json.loads(self.warren(*arguments, "--json")))


@pytest.fixture(scope="session")
def stack(engine: Engine, images: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Up and ready, with a token of the first operator; `down -v` at the end, also after a failure."""
    made = Stack(engine, tmp_path_factory.mktemp("operator") / "admin.token")
    try:
        made.up()
        made.token.write_text(
            engine.execute("registry", "warren", "deploy", "token", "--name", "admin", "--role", "admin")
        )
        yield made
    finally:
        engine.compose("down", "--volumes", "--timeout", "5")
