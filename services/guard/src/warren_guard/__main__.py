"""`python -m warren_guard`."""

from warren_guard.entry import main

main()
