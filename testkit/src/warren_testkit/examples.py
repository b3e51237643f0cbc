"""How many examples a property test tries: some in `make check`, all in `make test`, many more in `make test-thorough`.

The environment variable `WARREN_EXAMPLES` selects the profile. A test states the number for `make test`.
"""

import os
from typing import Any, Final

from hypothesis import HealthCheck, settings

VARIABLE: Final = "WARREN_EXAMPLES"
FACTORS: Final = {"check": 0.25, "test": 1, "thorough": 20}
FEWEST: Final = 50  # examples in any profile, where the test states as many
USUAL: Final = 100  # examples of a test that states no number


def profile() -> str:
    """Return the selected profile.

    Raises ValueError for an unknown one.
    """
    name = os.environ.get(VARIABLE) or "test"
    if name not in FACTORS:
        raise ValueError(f"{VARIABLE}={name}: must be one of {', '.join(FACTORS)}")
    return name


def scaled(number: int) -> int:
    """Return how many examples the profile tries where `make test` tries `number`."""
    return max(int(number * FACTORS[profile()]), min(number, FEWEST))


def examples(number: int, **others: Any) -> settings:
    """Decorate a property test: `@examples(300)`. The other arguments are those of `hypothesis.settings`."""
    return settings(max_examples=scaled(number), **others)


def load_profile() -> None:
    """Make the profile the default of this process.

    Examples are the same in every run of `make check` and `make test`, and new ones in each of `make test-thorough`.
    How long one takes depends on what else the machine does, so there is no deadline, and slow generation is no failure.
    """
    thorough = profile() == "thorough"
    settings.register_profile(
        "warren",
        max_examples=scaled(USUAL),
        deadline=None,
        derandomize=not thorough,
        print_blob=thorough,
        suppress_health_check=(HealthCheck.too_slow,),
    )
    settings.load_profile("warren")
