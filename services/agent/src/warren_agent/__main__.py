"""`python -m warren_agent`."""

from warren_agent.entry import main

main()
