"""What `warren-guard` starts: keeps what it never needs out of the process, then runs the command.

asyncio would load ssl, and hashlib OpenSSL's digests, together 5 MB; both work without. rich and pydantic's plugins as in
`warren_agent.entry`.
"""

import os
import sys
from types import ModuleType


def main() -> None:
    """See `warren_guard.main.main`."""
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    modules: dict[str, ModuleType | None] = sys.modules  # type: ignore[assignment]  # None: "may not be imported"
    for name in ("rich", "better_exceptions", "ssl", "_hashlib"):
        modules.setdefault(name, None)
    from warren_guard.main import main as run

    run()
