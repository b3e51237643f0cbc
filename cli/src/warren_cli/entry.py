"""What `warren` starts. Ctrl-C while Python still imports ends the process without a word, as in any other command."""

import signal


def main() -> None:
    """See `warren_cli.main`."""
    interruptible = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if interruptible:  # otherwise somebody started us to ignore it
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from warren_cli.main import app

    if interruptible:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    app()
