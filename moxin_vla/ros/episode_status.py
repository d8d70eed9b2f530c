"""How a simulated episode stands, as a latched message: from sim_node to evaluators."""

from dataclasses import dataclass

from diagnostic_msgs.msg import DiagnosticStatus

from moxin_vla.core.protocols import EpisodeSpec, EpisodeStatus
from moxin_vla.ros.diagnostics import ERROR, OK, status_message, status_values


@dataclass(frozen=True, slots=True)
class EpisodeReport:
    """One message on /sim_node/episode.

    Attributes:
        episode: Counts resets since sim_node started.
        spec: What is played.
        status: How it stands.
        time_ns: Simulated time, in [ns].
        published_ns: Stamp of the newest state that was published before this message, in [ns].
    """

    episode: int
    spec: EpisodeSpec
    status: EpisodeStatus
    time_ns: int
    published_ns: int


def report_to_message(report: EpisodeReport) -> DiagnosticStatus:
    """Return the message; its text says how the episode stands."""
    status, spec = report.status, report.spec
    running = "out of time" if status.done else "running"
    return status_message(
        "sim_node: episode",
        ERROR if status.failure else OK,
        status.failure or ("success" if status.success else running),
        {
            "episode": report.episode,
            "seed": spec.seed,
            "family": spec.family,
            "instruction": spec.instruction,
            "time_ns": report.time_ns,
            "published_ns": report.published_ns,
            "step": status.step,
            "horizon": status.horizon,
            "success": status.success,
            "failure": status.failure,
            "done": status.done,
        },
    )


def message_to_report(message: DiagnosticStatus) -> EpisodeReport:
    """Return what a message on /sim_node/episode says."""
    values = status_values(message)
    return EpisodeReport(
        episode=int(values["episode"]),
        spec=EpisodeSpec(int(values["seed"]), values["family"], values["instruction"]),
        status=EpisodeStatus(
            step=int(values["step"]),
            horizon=int(values["horizon"]),
            success=values["success"] == "True",
            failure=values["failure"],
        ),
        time_ns=int(values["time_ns"]),
        published_ns=int(values["published_ns"]),
    )
