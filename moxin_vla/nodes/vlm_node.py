"""vlm_node: a question about what a camera sees in, an answer out, beside the running policy.

A process of its own, so that talking never delays a plan. The answer is made in a thread; a newer
question ends it. Pieces go out as they are made, the whole answer at its end.
"""

import queue
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
from diagnostic_msgs.msg import DiagnosticStatus
from numpy.typing import NDArray
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import String

from moxin_vla.core.embodiment import load_embodiment
from moxin_vla.core.errors import MoxinVlaError
from moxin_vla.core.images import decode_compressed
from moxin_vla.core.messages import image_pixels
from moxin_vla.ros.diagnostics import ERROR, OK, Arrivals, status_message
from moxin_vla.ros.lifecycle import ManagedNode, run_node
from moxin_vla.ros.parameters import parameter, read_parameters
from moxin_vla.ros.qos import COMMAND, COMMAND_PUBLISHER, sensor_subscription

_JOIN_S = 5.0
_NO_ANSWER = "(no answer: {})"


@dataclass(frozen=True, slots=True)
class VlmParameters:
    """Parameters of vlm_node."""

    embodiment: str = parameter("", "embodiment file")
    vlm: str = parameter("", "vision-language model: directory or Hugging Face id")
    camera: str = parameter("", "camera that is looked through; empty for the first")
    device: str = parameter("cpu", "torch device")
    max_new_tokens: int = parameter(128, "longest answer", bounds=(1, 4096))
    temperature: float = parameter(0.0, "0 for the likeliest words", bounds=(0.0, 10.0))


class VlmNode(ManagedNode):
    """Answers one question at a time about the newest image."""

    def __init__(self) -> None:
        super().__init__("vlm_node", VlmParameters)
        self._talker: Talker | None = None

    def setup(self) -> None:
        """Load robot and model."""
        from moxin_vla.policy.moxin.generation import Sampling
        from moxin_vla.policy.moxin.vlm_loading import load_vlm

        values = read_parameters(self, VlmParameters)
        embodiment = load_embodiment(values.embodiment)
        camera = embodiment.camera(values.camera or embodiment.camera_names[0])
        sampling = Sampling(values.max_new_tokens, values.temperature)
        self._camera, self._image, self._arrivals = camera.name, None, Arrivals()
        self._name, self._trouble, self._answered = "", "", 0
        vlm = load_vlm(values.vlm, values.device)
        self._name = vlm.config.name
        self._pieces_out = self.create_lifecycle_publisher(
            String, "~/answer_piece", COMMAND_PUBLISHER
        )
        self._answers_out = self.create_lifecycle_publisher(String, "~/answer", COMMAND_PUBLISHER)
        self._wake = self.create_guard_condition(self._publish)
        self._talker = Talker(partial(vlm.ask, sampling=sampling), self._wake.trigger)
        self.create_subscription(String, "~/question", self._on_question, COMMAND)
        compressed = camera.topic.endswith("/compressed")
        kind = CompressedImage if compressed else Image
        self.create_subscription(kind, camera.topic, self._on_image, sensor_subscription(False))

    def teardown(self) -> None:
        """Let go of the model."""
        if self._talker is not None:
            self._talker.close()
            self._talker = None

    def halt(self) -> None:
        """End the running answer."""
        if self._talker is not None:
            self._talker.hush()

    def _on_image(self, message: Image | CompressedImage) -> None:
        if self.active:
            self._arrivals.note(self._camera)
            self._image = message

    def _on_question(self, message: String) -> None:
        if not self.active or self._talker is None:
            return
        if self._image is None:
            self._say_why_not(f"no image from camera '{self._camera}' yet")
            return
        try:
            self._talker.ask(_pixels(self._image), message.data)
        except MoxinVlaError as error:
            self._say_why_not(str(error))

    def _publish(self) -> None:
        """Publish what the talker has made; it woke the executor."""
        if not self.active or self._talker is None:
            return
        for said in self._talker.take():
            if said.error:
                self._say_why_not(said.error)
            elif said.whole:
                self._trouble, self._answered = "", self._answered + 1
                self._answers_out.publish(String(data=said.text))
            else:
                self._pieces_out.publish(String(data=said.text))
        self.publish_status()

    def _say_why_not(self, reason: str) -> None:
        self._trouble = reason
        self.get_logger().error(reason, throttle_duration_sec=1.0)
        self._answers_out.publish(String(data=_NO_ANSWER.format(reason)))
        self.publish_status()

    def measure(self) -> None:
        """Renew the rates of what arrives."""
        self._arrivals.measure()

    def describe(self) -> DiagnosticStatus:
        """Say what it does."""
        values = {
            "model": self._name,
            "camera": self._camera,
            "answers": self._answered,
            **self._arrivals.rates,
        }
        level = ERROR if self._trouble else OK
        return status_message("vlm_node", level, self._trouble or "listening", values)


def _pixels(message: Image | CompressedImage) -> NDArray[np.uint8]:
    if isinstance(message, CompressedImage):
        return decode_compressed(bytes(message.data))
    return image_pixels(message)


@dataclass(frozen=True, slots=True)
class Said:
    """A piece of an answer, the whole of it at its end, or why there is none."""

    text: str = ""
    whole: bool = False
    error: str = ""


class Talker:
    """A thread that answers; the newest question wins.

    Args:
        answer: (image, question) -> pieces; called on the thread.
        on_ready: Called on the thread when `take` has something; must only wake someone.
    """

    def __init__(
        self,
        answer: Callable[[NDArray[np.uint8], str], Iterator[str]],
        on_ready: Callable[[], None],
    ) -> None:
        self._answer, self._on_ready = answer, on_ready
        self._questions: queue.SimpleQueue[tuple[NDArray[np.uint8], str] | None]
        self._questions = queue.SimpleQueue()
        self._said: queue.SimpleQueue[Said] = queue.SimpleQueue()
        self._current = 0
        self._thread = threading.Thread(target=self._run, name="answers", daemon=True)
        self._thread.start()

    def ask(self, image: NDArray[np.uint8], question: str) -> None:
        """Answer this next; what is being said ends."""
        self._current += 1
        self._questions.put((image, question))

    def hush(self) -> None:
        """End what is being said."""
        self._current += 1

    def take(self) -> list[Said]:
        """Return what was said since the last call."""
        said = []
        while not self._said.empty():
            said.append(self._said.get())
        return said

    def close(self) -> None:
        """End the thread."""
        self._current += 1
        self._questions.put(None)
        self._thread.join(timeout=_JOIN_S)

    def _run(self) -> None:
        while (asked := self._questions.get()) is not None:
            if self._questions.empty():
                self._talk(*asked)

    def _talk(self, image: NDArray[np.uint8], question: str) -> None:
        current, text = self._current, ""
        try:
            for piece in self._answer(image, question):
                if current != self._current:
                    return
                text += piece
                self._put(Said(piece))
            self._put(Said(text, whole=True))
        except Exception as error:  # whatever a model raises is reported, and the node lives
            self._put(Said(error=f"{type(error).__name__}: {error}"))

    def _put(self, said: Said) -> None:
        self._said.put(said)
        self._on_ready()


def main() -> int:
    """Run vlm_node."""
    return run_node(VlmNode, images=True)


if __name__ == "__main__":
    sys.exit(main())
