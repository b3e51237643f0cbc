"""The Grafana dashboards of `deploy/grafana`, and the mixin of `deploy/mixin`: `python -m warren_tools.dashboards deploy`."""
