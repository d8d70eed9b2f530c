"""Runs episodes on a system that is up, through topics and services only.

pause -> parameters -> reset the simulator -> reset both nodes, until they had seen everything of
the former episode -> instruction, until policy_node's status shows it -> go. So nothing of one
episode leaks into the next, and no first message is lost.
"""

import time
from collections.abc import Callable
from types import TracebackType
from typing import Any

import rclpy
from rcl_interfaces.msg import Parameter
from rcl_interfaces.srv import SetParameters
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.parameter import Parameter as RclpyParameter
from std_msgs.msg import String
from std_srvs.srv import SetBool, Trigger

from moxin_vla.core.embodiment import Embodiment
from moxin_vla.core.errors import MoxinVlaError
from moxin_vla.core.protocols import EpisodeSpec
from moxin_vla.ros.episode_recorder import EpisodeRecorder, RosEpisode
from moxin_vla.ros.patient_call import patient_call
from moxin_vla.ros.qos import COMMAND
from moxin_vla.ros.resets import seen_ns

_SERVICE_S = 10.0
_DRAINED_S = 1.0  # a node that has not got a message after so long will not get it
_QUIET_S = 0.3  # after the end of an episode: nothing new for so long is all there is
_STALL_S = 30.0  # no message of the episode for this long: it can't go on


class EpisodeClient:
    """A node in a context of its own; use as a context manager, from one thread.

    Args:
        embodiment: The robot of the running system.
        check: Called while waiting; may raise, for example when a process has ended.
    """

    def __init__(self, embodiment: Embodiment, check: Callable[[], None] = lambda: None) -> None:
        self._embodiment, self._check = embodiment, check

    def __enter__(self) -> "EpisodeClient":
        self._context = Context()
        rclpy.init(context=self._context)
        self._node = node = rclpy.create_node("moxin_evaluator", context=self._context)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(node)
        self.recorder = EpisodeRecorder(node, self._embodiment)
        self._instruction = node.create_publisher(String, "policy_node/instruction", COMMAND)
        self._set = node.create_client(SetParameters, "sim_node/set_parameters")
        self._pause = node.create_client(SetBool, "sim_node/pause")
        self._reset_sim = node.create_client(Trigger, "sim_node/reset")
        self._triggers: dict[str, Any] = {}
        self._resets = [
            node.create_client(Trigger, f"{name}/reset")
            for name in ("policy_node", "control_node")
        ]
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._executor.shutdown()
        self._node.destroy_node()
        rclpy.shutdown(context=self._context)

    def begin(
        self,
        spec: EpisodeSpec,
        film: bool = False,
        before_go: Callable[[], None] = lambda: None,
    ) -> RosEpisode:
        """Set up an episode and let it start.

        Args:
            spec: What is played.
            film: Whether to keep the images of the bystander's camera.
            before_go: Called when all is set up and time stands still.

        Returns:
            The episode; it fills up while messages are handled.

        Raises:
            MoxinVlaError: A service does not answer or refuses.
        """
        self.recorder.stop()
        self.recorder.film(film)
        report = self._set_up(spec)
        for client in self._resets:
            self._reset(client, report.published_ns)
        self.tell(spec.instruction)
        episode = self.recorder.start(spec, report)
        before_go()
        self._call(self._pause, SetBool.Request(data=False))
        return episode

    def run(self, spec: EpisodeSpec, film: bool = False, timeout_s: float = 300.0) -> RosEpisode:
        """Play an episode to its end; returns what the topics showed."""
        episode = self.begin(spec, film)
        ended = self.spin_until(lambda: episode.status.done or bool(episode.error), timeout_s)
        if not ended:
            episode.error = (
                f"the episode stood still for {_STALL_S:.0f} s or took {timeout_s:.0f} s; "
                f"control_node: {self.recorder.control.get('reason') or 'no status'}"
            )
        else:
            self._hear_out(episode)
        self.recorder.stop()
        return episode

    def tell(self, instruction: str) -> None:
        """Publish the instruction until policy_node's status shows it.

        Raises:
            MoxinVlaError: It never does.
        """
        self.recorder.policy = {}  # what it said before may be of a process that is gone
        deadline, again = time.monotonic() + _SERVICE_S, 0.0
        while self.recorder.policy.get("instruction") != instruction:
            if time.monotonic() > again:
                self._instruction.publish(String(data=instruction))
                again = time.monotonic() + 0.25
            self.spin_once(0.05)
            if time.monotonic() > deadline:
                raise MoxinVlaError(f"policy_node did not take the instruction '{instruction}'.")

    def spin_until(self, condition: Callable[[], bool], timeout_s: float) -> bool:
        """Handle messages until a condition holds; returns whether it does.

        Gives up early if the simulator stands still.
        """
        deadline = time.monotonic() + timeout_s
        moved, seen = time.monotonic(), self.recorder.report
        while not condition():
            if time.monotonic() > min(deadline, moved + _STALL_S):
                return False
            self.spin_once()
            if self.recorder.report is not seen:
                moved, seen = time.monotonic(), self.recorder.report
        return True

    def spin_once(self, timeout_s: float = 0.1) -> None:
        """Handle one message, if one arrives in time."""
        self._executor.spin_once(timeout_sec=timeout_s)
        self._check()

    def _hear_out(self, episode: RosEpisode) -> None:
        """Wait for what is still on its way from other topics, as long as something comes."""
        heard, since = -1, time.monotonic()
        while not _complete(episode) and time.monotonic() - since < _QUIET_S:
            self.spin_once(0.05)
            if (now_heard := _heard(episode)) != heard:
                heard, since = now_heard, time.monotonic()

    def _set_up(self, spec: EpisodeSpec) -> Any:
        """Reset the simulator to `spec`; returns its report of the new episode."""
        self._call(self._pause, SetBool.Request(data=True))
        values = {"seed": spec.seed, "family": spec.family, "instruction": spec.instruction}
        parameters: list[Parameter] = [
            RclpyParameter(name, value=value).to_parameter_msg() for name, value in values.items()
        ]
        self._call(self._set, SetParameters.Request(parameters=parameters))
        self._wait(lambda: self.recorder.report is not None, "sim_node's episode")
        assert self.recorder.report is not None
        former = self.recorder.report.episode
        answer = self._call(self._reset_sim, Trigger.Request())
        if not answer.success:
            raise MoxinVlaError(f"sim_node refused to reset: {answer.message}")
        self._wait(lambda: self.recorder.report.episode > former, "the new episode")
        return self.recorder.report

    def _reset(self, client: Any, published_ns: int) -> None:
        """Reset a node until it had seen everything that was published before."""
        deadline = time.monotonic() + _DRAINED_S
        while seen_ns(self._call(client, Trigger.Request())) < published_ns:
            if time.monotonic() > deadline:
                return
            self.spin_once(0.02)

    def trigger(self, service: str) -> Trigger.Response:
        """Call a service of type std_srvs/Trigger.

        Raises:
            MoxinVlaError: It does not answer.
        """
        if service not in self._triggers:
            self._triggers[service] = self._node.create_client(Trigger, service)
        return self._call(self._triggers[service], Trigger.Request())

    @property
    def node(self) -> Any:
        """The node whose messages `spin_once` handles."""
        return self._node

    def _call(self, client: Any, request: Any) -> Any:
        answer = patient_call(client, request, lambda: self.spin_once(0.05), _SERVICE_S)
        if answer is None:
            raise MoxinVlaError(
                f"The service {client.srv_name} did not answer within {_SERVICE_S:.0f} s."
            )
        return answer

    def _wait(self, condition: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + _SERVICE_S
        while not condition():
            self.spin_once(0.05)
            if time.monotonic() > deadline:
                raise MoxinVlaError(f"Waited {_SERVICE_S:.0f} s in vain for {what}.")


def _complete(episode: RosEpisode) -> bool:
    """Return whether every tick and every plan of an ended episode has been heard of."""
    steps, control = episode.status.step, episode.control
    offered = sum(int(n) for k, n in control.items() if k == "commits" or k.startswith("rejected"))
    return (
        len(episode.proprio) >= steps
        and len(episode.commands) >= steps
        and int(control.get("ticks", 0)) >= steps
        and len(episode.inference_ms) >= len(episode.chunks) >= offered
    )


def _heard(episode: RosEpisode) -> int:
    kinds = (episode.proprio, episode.commands, episode.chunks, episode.inference_ms)
    return sum(len(kind) for kind in kinds)
