"""What `warren-agent` starts: keeps costly conveniences out of the process, then runs the command.

Ctrl-C during the imports ends the process without a word.
"""

import signal

from warren_contracts.lean_start import lean_imports


def main() -> None:
    """See `warren_agent.main.main`."""
    interruptible = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if interruptible:  # otherwise somebody started us to ignore it
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    with lean_imports():
        from warren_agent.main import main as run

    if interruptible:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    run()
