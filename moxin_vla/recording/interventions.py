"""Who stepped in: an operator who drives where a policy has driven before."""

from moxin_vla.core.dataset import Drove


class Interventions:
    """Knows whether an operator who drives has taken over from a policy."""

    def __init__(self) -> None:
        self._policy_drove = False

    def note(self, driver: Drove) -> bool:
        """Take who drives at a row; return whether that is an intervention."""
        self._policy_drove |= driver is Drove.POLICY
        return self._policy_drove and driver is Drove.OPERATOR
