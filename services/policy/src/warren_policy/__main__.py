"""`python -m warren_policy`."""

import sys

from warren_policy.app import main

if __name__ == "__main__":
    sys.exit(main())
