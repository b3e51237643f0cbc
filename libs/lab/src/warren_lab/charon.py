"""One charon in one namespace, with a private /run and a private /etc/strongswan.d.

Debian's AppArmor profile confines charon by the paths it sees. So the gateway's own folder is bind-mounted over /run
and another over /etc/strongswan.d in a mount namespace of its own: inside, the daemon uses the default names
charon.vici, charon.enfy and charon.log in /run; outside, the same sockets are reached in the gateway's folder.

With `root`, the charon of another Debian release runs in that folder (deploy/debian/other-strongswan.sh fills one): the
same binds, and a /dev of its own, are made below it before the chroot. All of it is in the daemon's mount namespace, so
that nothing outlives the daemon however it ends, and several daemons share one folder.
"""

import os
import shlex
import socket
import subprocess
from pathlib import Path

from warren_lab.charon_conf import Settings, charon_settings, needs_tun, render
from warren_lab.errors import LabError, TimedOutError
from warren_lab.namespace import Namespace, run
from warren_lab.process import stop_process, wait_until

CHARON = Path("/usr/lib/ipsec/charon")
SYSTEM_CONF_FOLDER = Path("/etc/strongswan.d")
TUN_DEVICE = Path("/dev/net/tun")
ROOT_DEVICES = (("net/tun", 10, 200), ("null", 1, 3), ("random", 1, 8), ("urandom", 1, 9))
"""What charon opens in /dev: name, major and minor number (devices.txt of the kernel)."""

START_LIMIT_SECONDS = 60.0
"""charon answers within 0.2 s on two idle cores; the limit is for a machine that is busy."""
STOP_LIMIT_SECONDS = 30.0
"""Then it is killed, and its peers get no DELETE. It ends within 0.2 s on two idle cores."""
SOCKET_PATH_LIMIT_BYTES = 107
"""sun_path holds 108 bytes with its end (unix(7))."""


class Charon:
    """A strongSwan daemon of the lab. `vici_path` and `enfy_path` are usable from every namespace of this machine.

    `root` is a folder with another Debian release, whose charon runs instead (real root only: mknod).
    """

    def __init__(
        self, namespace: Namespace, folder: Path, settings: Settings | None = None, root: Path | None = None
    ) -> None:
        self.namespace = namespace
        self.folder = folder
        self.run_folder = folder / "run"
        self.vici_path = self.run_folder / "charon.vici"
        self.enfy_path = self.run_folder / "charon.enfy"
        self.log_path = self.run_folder / "charon.log"
        self._root = root
        self._conf_folder = folder / "etc"
        self._settings = charon_settings() if settings is None else settings
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def process_id(self) -> int:
        """The daemon's process id.

        Raises:
            LabError: it is not running.
        """
        if self._process is None or self._process.poll() is not None:
            raise LabError(f"charon of {self.namespace.name} is not running")
        return self._process.pid

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start the daemon and wait until its VICI socket accepts a connection.

        Raises:
            LabError: it is installed nowhere, runs already, or ended or said nothing within the limit (with its log).
        """
        self._check()
        self.run_folder.mkdir(parents=True, exist_ok=True)
        self._conf_folder.mkdir(parents=True, exist_ok=True)
        (self._conf_folder / "warren.conf").write_text(render(self._settings))
        self._clear_sockets()
        output = (self.folder / "charon.out").open("ab")
        with output:
            self._process = self.namespace.spawn(
                *self._argv(),
                env={"PATH": os.environ.get("PATH", os.defpath), "STRONGSWAN_CONF": "/etc/strongswan.d/warren.conf"},
                stdout=output,
                stderr=output,
            )
        try:
            wait_until(self._answers, "charon's VICI socket", START_LIMIT_SECONDS, self._process.pid)
        except TimedOutError as error:
            self.stop()
            raise LabError(f"{error}; its last output: {self._last_output()}") from error

    def stop(self) -> None:
        """End the daemon by its id: it tears its SAs and routes down first. A stopped one is fine."""
        if self._process is not None:
            stop_process(self._process, limit_seconds=STOP_LIMIT_SECONDS)
            self._process = None

    def kill(self) -> None:
        """End it as a crash would: no DELETE reaches a peer."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def restart(self) -> None:
        """Stop and start: everything that was loaded by VICI is gone afterwards."""
        self.stop()
        self.start()

    def swanctl(self, *arguments: str) -> str:
        """What swanctl prints, run in the daemon's own mount namespace."""
        enter = ["nsenter", "--target", str(self.process_id), "--mount", "--net", *(["--root"] if self._root else [])]
        return run([*enter, "--", "swanctl", *arguments])

    def log(self) -> str:
        """The daemon's log so far."""
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def _check(self) -> None:
        if self.is_running:
            raise LabError(f"charon of {self.namespace.name} runs already")
        if not self._in_root(CHARON).exists() or not self._in_root(SYSTEM_CONF_FOLDER).is_dir():
            script = "other-strongswan.sh" if self._root else "setup.sh"
            raise LabError(f"Debian's strongswan-charon is not installed; deploy/debian/{script} installs it")
        if needs_tun(self._settings) and not TUN_DEVICE.exists():
            raise LabError("/dev/net/tun is missing; load the kernel's tun module (modprobe tun)")
        if len(os.fsencode(self.vici_path)) > SOCKET_PATH_LIMIT_BYTES:
            raise LabError(f"{self.vici_path} is longer than {SOCKET_PATH_LIMIT_BYTES} bytes; use a shorter folder")

    def _argv(self) -> list[str]:
        """The binds happen in a mount namespace of the daemon's own, then the shell becomes the daemon."""
        binds = ((self.run_folder, Path("/run")), (self._conf_folder, SYSTEM_CONF_FOLDER))
        steps = [f"mount --no-mtab --bind {_quote(source)} {_quote(self._in_root(target))}" for source, target in binds]
        if self._root is None:
            steps.append(f"exec {CHARON}")
        else:
            steps += [*_root_steps(self._root), f"exec chroot {_quote(self._root)} {CHARON}"]
        return ["unshare", "--mount", "--propagation", "private", "sh", "-c", " && ".join(steps)]

    def _in_root(self, path: Path) -> Path:
        """A path of the daemon's as it is seen from outside its root."""
        return path if self._root is None else self._root / path.relative_to("/")

    def _clear_sockets(self) -> None:
        """A killed daemon leaves its files; a new one would refuse to start over charon.pid."""
        for name in ("charon.pid", "charon.vici", "charon.enfy"):
            (self.run_folder / name).unlink(missing_ok=True)

    def _answers(self) -> bool:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            try:
                probe.connect(str(self.vici_path))
            except OSError:
                return False
        return True

    def _last_output(self) -> str:
        output = (self.folder / "charon.out").read_text(errors="replace") + self.log()
        return " / ".join(output.splitlines()[-5:]) or "none"


def _root_steps(root: Path) -> list[str]:
    """A fresh /dev and the /proc of this machine below `root`, as shell commands."""
    dev = root / "dev"
    return [
        f"mount --no-mtab --bind /proc {_quote(root / 'proc')}",
        f"mount --no-mtab -t tmpfs -o mode=755 tmpfs {_quote(dev)}",
        f"mkdir {_quote(dev / 'net')}",
        *(f"mknod -m 666 {_quote(dev / name)} c {major} {minor}" for name, major, minor in ROOT_DEVICES),
    ]


def _quote(path: Path) -> str:
    return shlex.quote(str(path))
