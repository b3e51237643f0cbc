"""`python -m warren_registry`."""

import sys

from warren_registry.app import main

if __name__ == "__main__":
    sys.exit(main())
