"""The settings of the userspace driver."""

from warren_agent.setting import Setting

SOCKET_FILE = "userspace.sock"
SETTINGS = (
    Setting(
        "userspace_socket",
        "WARREN_USERSPACE_SOCKET",
        "--userspace-socket",
        "",
        "the userspace daemon's socket; default: in the state folder, where the agent starts the daemon",
        host=True,
    ),
)
