"""When to plan again: the one rule that policy node, control node and in-process runner share."""


class ReplanSchedule:
    """Says when the next observation should go to the policy: every execution horizon.

    Args:
        execution_horizon: Steps s played from a chunk before the next plan is due; at least 1.
        step_ns: Control period, in [ns].
    """

    def __init__(self, execution_horizon: int, step_ns: int) -> None:
        if execution_horizon < 1 or step_ns < 1:
            raise ValueError(
                "execution_horizon and step_ns must be at least 1. "
                f"Got: {execution_horizon} and {step_ns}"
            )
        self._period_ns = execution_horizon * step_ns
        self._last_ns: int | None = None

    def due(self, time_ns: int) -> bool:
        """Return True if an observation captured at `time_ns` should be planned from.

        True if nothing was planned yet, if s steps have passed, or if time went back: a plan
        from another run of the clock must not silence the policy until the clock catches up.
        """
        if self._last_ns is None or time_ns < self._last_ns:
            return True
        return time_ns >= self._last_ns + self._period_ns

    def mark(self, time_ns: int) -> None:
        """Note that the observation captured at `time_ns` is being planned from."""
        self._last_ns = time_ns

    def reset(self) -> None:
        """Forget every plan: the next observation is due."""
        self._last_ns = None
