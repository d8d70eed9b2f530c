"""Plays simulated episodes and has recorder_node record each of them, from its first tick on."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from diagnostic_msgs.msg import DiagnosticStatus

from moxin_vla.core.errors import RecordingError
from moxin_vla.core.protocols import EpisodeSpec
from moxin_vla.ros.diagnostics import status_values
from moxin_vla.ros.episode_client import EpisodeClient
from moxin_vla.ros.qos import LATCHED

_SAVED_S = 60.0
_EPISODE_S = 600.0


@dataclass(frozen=True, slots=True)
class RecordedEpisode:
    """One episode that was played and recorded.

    Attributes:
        spec: What was played.
        success: How it ended, judged by sim_node.
        steps: Its length, in control steps.
        rows: How many of them were recorded.
        operator_steps: Steps at which the operator drove.
        said: What recorder_node said of it.
    """

    spec: EpisodeSpec
    success: bool
    steps: int
    rows: int
    operator_steps: int
    said: str


class RecordedEpisodes:
    """Plays and records on a system that is up, with recorder_node in it.

    Args:
        client: Of the running system.
    """

    def __init__(self, client: EpisodeClient) -> None:
        self._client = client
        self._recorder: dict[str, str] = {}
        client.node.create_subscription(
            DiagnosticStatus, "recorder_node/status", self._on_status, LATCHED
        )
        self._drivers: list[str] = []

    def _on_status(self, message: DiagnosticStatus) -> None:
        self._recorder = status_values(message)

    @property
    def recorder(self) -> dict[str, str]:
        """recorder_node's last status."""
        return self._recorder

    def play(self, specs: Sequence[EpisodeSpec]) -> Iterator[RecordedEpisode]:
        """Play one after the other; yields each once it is part of the dataset.

        Raises:
            RecordingError: An episode can't be played or recorded.
        """
        for spec in specs:
            yield self._play(spec)

    def _play(self, spec: EpisodeSpec) -> RecordedEpisode:
        self._wait(lambda: bool(self._recorder), "recorder_node's status")
        before = int(self._recorder["episodes"])
        episode = self._client.begin(spec, before_go=lambda: self._ask("start"))
        ended = self._client.spin_until(
            lambda: episode.status.done or bool(episode.error), _EPISODE_S
        )
        if not ended or episode.error:
            self._ask("discard")
            raise RecordingError(f"Episode {spec}: {episode.error or 'it stood still'}")
        self._ask("success" if episode.status.success else "failure")
        self._ask("stop")
        self._wait(
            lambda: int(self._recorder["episodes"]) > before or self._recorder["trouble"] != "",
            "the episode to be saved",
        )
        if trouble := self._recorder["trouble"]:
            raise RecordingError(f"Episode {spec}: {trouble}")
        drove = int(self._recorder["operator rows"])
        steps, success = episode.status.step, episode.status.success
        rows = int(self._recorder["rows"])
        return RecordedEpisode(spec, success, steps, rows, drove, self._recorder["last"])

    def _ask(self, service: str) -> None:
        answer = self._client.trigger(f"recorder_node/{service}")
        if not answer.success:
            raise RecordingError(f"recorder_node refused to {service}: {answer.message}")

    def _wait(self, condition, what: str) -> None:
        deadline = time.monotonic() + _SAVED_S
        while not condition():
            self._client.spin_once(0.05)
            if time.monotonic() > deadline:
                raise RecordingError(f"Waited {_SAVED_S:.0f} s in vain for {what}.")
