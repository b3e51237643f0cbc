"""What `warren-agent` starts: keeps costly conveniences out of the process, then runs the command.

Ctrl-C during the imports ends the process without a word.
"""

from warren_process.interrupt import silent_interrupt
from warren_process.lean_start import lean_imports


def main() -> None:
    """See `warren_agent.main.main`."""
    with silent_interrupt(), lean_imports():
        from warren_agent.main import main as run
    run()
