"""What `warren-guard` starts: keeps what it never needs out of the process, then runs the command.

asyncio would load ssl, and hashlib OpenSSL's digests, together 5 MB; both work without.
"""

from warren_process.lean_start import lean_imports


def main() -> None:
    """See `warren_guard.main.main`."""
    with lean_imports("ssl", "_hashlib"):
        from warren_guard.main import main as run

    run()
