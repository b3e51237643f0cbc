"""`python -m warren_gateway`."""

from warren_gateway.bootstrap import main

raise SystemExit(main())
