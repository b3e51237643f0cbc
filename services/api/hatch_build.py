"""Build hook of the wheel: it brings the web page, if `make web` has built it."""

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class PageHook(BuildHookInterface):  # type: ignore[type-arg]
    """Adds the built page to what is installed below `share/`."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """An editable installation reads what `make web` installs into its environment."""
        built = Path(self.root).parents[1] / "build" / "web" / "page"
        if version == "standard" and (built / "index.html").is_file():
            build_data["shared_data"][str(built)] = "share/warren/page"
