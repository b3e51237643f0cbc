"""`python -m warren_metrics`."""

import sys

from warren_metrics.app import main

if __name__ == "__main__":
    sys.exit(main())
