"""strongSwan's settings: where charon is reached."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from warren_agent.setting import Setting

DEFAULT_VICI = "/var/run/charon.vici"

SETTINGS = (
    Setting("vici_socket", "WARREN_VICI_SOCKET", "--vici", DEFAULT_VICI, "charon's VICI socket", host=True),
    Setting(
        "enfy_socket",
        "WARREN_ENFY_SOCKET",
        "--enfy",
        "",
        "charon's error-notify socket; default: next to VICI's",
        host=True,
    ),
    Setting(
        "drift", "WARREN_DRIFT", "--drift", "correct", "charon's configuration changed by others: correct or observe", host=True,
    ),
)  # fmt: skip


@dataclass(frozen=True)
class StrongswanPaths:
    """The sockets of charon. `notify` is the error-notify plugin's, by default next to VICI's."""

    vici: Path = Path(DEFAULT_VICI)
    notify: Path | None = None

    @property
    def notify_socket(self) -> Path:
        """The error-notify socket that is used."""
        return self.notify or self.vici.with_name("charon.enfy")


def paths_of(settings: Mapping[str, str]) -> StrongswanPaths:
    """charon's sockets by the driver's settings."""
    enfy = settings.get("enfy_socket", "")
    return StrongswanPaths(Path(settings["vici_socket"]), Path(enfy) if enfy else None)
