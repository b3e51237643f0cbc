"""The source of randomness, which every part receives from its caller: the core imports none."""

from collections.abc import Callable

RandomBytes = Callable[[int], bytes]
"""Return so many bytes: cryptographically secure outside of tests, such as `os.urandom`."""
