"""What keeps an intent from doing harm."""

from dataclasses import dataclass

from warren_agent.change_control import ChangeControl
from warren_agent.protection import Protection


@dataclass(frozen=True, slots=True)
class Safeguards:
    """`protection`: no packet leaves in clear, and the host is not cut off. `changes`: what does not work is taken back."""

    protection: Protection
    changes: ChangeControl
