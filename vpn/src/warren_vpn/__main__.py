"""`python -m warren_vpn` is `warren vpn`, also where the command `warren` is not installed."""

from warren_vpn.commands import app

app(prog_name="warren vpn")
