"""Whether recording keeps up: three 640x480 cameras at 30 Hz, joint states at 100 Hz, over DDS.

    python benchmarks/recording.py [--seconds 300]

A process publishes pictures with sensor noise, joint states and, at 30 Hz, commands; recorder_node
records them. Then the same pictures go, 30 times a second, into LeRobot's own writer as
`lerobot-record` sets it up (PNG by four threads per camera, encoded when the episode is saved),
in a loop without ROS. Both episodes end on the same disk, one after the other, in one run.
"""

import argparse
import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Event
from pathlib import Path

import numpy as np
import yaml
from rich.console import Console
from rich.table import Table

from moxin_vla.core.resources import resource_path
from moxin_vla.ros.dds import apply_dds_profile, dds_environment

CAMERAS, WIDTH, HEIGHT, CAMERA_HZ, JOINTS_HZ = ("front", "side", "wrist"), 640, 480, 30, 100
_PICTURES = 20  # different ones per camera


def write_embodiment(folder: Path) -> Path:
    """Write a robot with three large cameras that ticks at 30 Hz."""
    source = resource_path("config/embodiments/so101_sim.yaml").read_text(encoding="utf-8")
    content = yaml.safe_load(source)
    content["control_rate_hz"] = float(CAMERA_HZ)
    content["cameras"] = [
        {"name": n, "topic": f"/camera/{n}/image_raw", "width": WIDTH, "height": HEIGHT}
        for n in CAMERAS
    ]
    path = folder / "embodiment.yaml"
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return path


def pictures() -> list[np.ndarray]:
    """Draw pictures as a camera sees them: smooth, moving, with noise of four levels."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    drawn = []
    for k in range(_PICTURES):
        planes = [127 + 80 * np.sin((x + 9 * k) / 50 + c) * np.cos(y / 70) for c in range(3)]
        noisy = np.stack(planes, axis=-1) + rng.normal(0, 4, (HEIGHT, WIDTH, 3))
        drawn.append(np.clip(noisy, 0, 255).astype(np.uint8))
    return drawn


def publish(embodiment: Path, domain: int, over: Event, sent: Queue) -> None:
    """Be the cameras, the driver and control_node until it is over; put how much was sent."""
    apply_dds_profile(domain, images=True)
    import rclpy
    from sensor_msgs.msg import Image, JointState
    from trajectory_msgs.msg import JointTrajectory

    from moxin_vla.core.embodiment import load_embodiment
    from moxin_vla.ros.conversions import (
        image_message,
        joint_state_message,
        ns_to_time,
        target_message,
    )
    from moxin_vla.ros.qos import COMMAND_PUBLISHER, IMAGE_PUBLISHER, JOINTS_PUBLISHER

    rclpy.init()
    node, robot = rclpy.create_node("cameras"), load_embodiment(embodiment)
    cameras = [node.create_publisher(Image, c.topic, IMAGE_PUBLISHER) for c in robot.cameras]
    joints = node.create_publisher(JointState, robot.joint_states_topic, JOINTS_PUBLISHER)
    command, action = (
        node.create_publisher(JointTrajectory, f"control_node/{name}", COMMAND_PUBLISHER)
        for name in ("command", "action")
    )
    images = [image_message(0, "", picture) for picture in pictures()]
    at, number, count, worst_s = np.zeros(robot.dof), 0, 0, 0.0
    began = time.monotonic()
    while not over.is_set():
        now_ns = time.time_ns()
        due = number % JOINTS_HZ * CAMERA_HZ // JOINTS_HZ  # images of this second
        if due != (number - 1) % JOINTS_HZ * CAMERA_HZ // JOINTS_HZ:
            for offset, camera in enumerate(cameras):
                message = images[(count + offset) % _PICTURES]
                message.header.stamp = ns_to_time(now_ns)
                camera.publish(message)
            count += 1
            joints.publish(joint_state_message(now_ns, robot.joint_names, at))
            action.publish(target_message(now_ns, robot.joint_names, at, "operator"))
            command.publish(target_message(now_ns, robot.joint_names, at))
        else:
            joints.publish(joint_state_message(now_ns, robot.joint_names, at))
        number += 1
        late_s = time.monotonic() - began - number / JOINTS_HZ
        worst_s = max(worst_s, late_s)
        time.sleep(max(0.0, -late_s))
    sent.put({"ticks": count, "worst late ms": 1000 * worst_s})
    node.destroy_node()
    rclpy.shutdown()


def rss_mb(pid: int) -> float:
    """Return the memory of a process that is its own, in MB."""
    for line in Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) / 1000
    return float("nan")


def processor_s(pid: int) -> float:
    """Return what a process has used of the processors, in [s]."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Memory:
    """Samples a process' memory while it works."""

    def __init__(self, pid: int) -> None:
        self._pid, self.samples = pid, [rss_mb(pid)]
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        while not self._over.wait(1.0):
            try:
                sample = rss_mb(self._pid)
            except OSError:
                return
            if np.isnan(sample):  # it has ended
                return
            self.samples.append(sample)

    def __str__(self) -> str:
        """Say it after a tenth of the time, in the middle, and at the end."""
        n = len(self.samples)
        return ", ".join(f"{self.samples[i]:.0f}" for i in (n // 10, n // 2, n - 1))


def measure_ours(seconds: float, folder: Path) -> dict[str, object]:
    """Record over DDS with recorder_node."""
    import rclpy
    from diagnostic_msgs.msg import DiagnosticStatus
    from std_srvs.srv import Trigger

    from moxin_vla.ros.lifecycle_client import LifecycleClient
    from moxin_vla.ros.patient_call import patient_call
    from moxin_vla.ros.qos import LATCHED

    embodiment, root = write_embodiment(folder), folder / "ours"
    domain = 60 + os.getpid() % 40
    context = multiprocessing.get_context("spawn")
    over, sent = context.Event(), context.Queue()
    source = context.Process(target=publish, args=(embodiment, domain, over, sent))
    command = [sys.executable, "-m", "moxin_vla.nodes.recorder_node", "--ros-args"]
    for name, value in {"embodiment": embodiment, "root": root, "instruction": "wave"}.items():
        command += ["-p", f"{name}:={json.dumps(str(value))}"]
    node = subprocess.Popen(command, env=dds_environment(domain), stderr=subprocess.DEVNULL)
    apply_dds_profile(domain)
    try:
        with LifecycleClient() as client:
            while not client.reachable("recorder_node"):
                time.sleep(0.1)
            client.configure("recorder_node", 120.0, lambda: None)
            client.activate("recorder_node", 60.0, lambda: None)
        source.start()
        rclpy.init()
        asker, heard = rclpy.create_node("asker"), []
        asker.create_subscription(
            DiagnosticStatus, "recorder_node/status", lambda m: heard.append(m.message), LATCHED
        )

        def ask(service: str) -> str:
            caller = asker.create_client(Trigger, f"recorder_node/{service}")
            answer = patient_call(
                caller, Trigger.Request(), lambda: rclpy.spin_once(asker, timeout_sec=0.05), 60.0
            )
            assert answer is not None and answer.success, (service, answer)
            return answer.message

        while not heard or heard[-1] != "ready":  # every camera and the joints arrive
            rclpy.spin_once(asker, timeout_sec=0.1)
        time.sleep(3.0)
        ask("start")
        memory, before_s = Memory(node.pid), processor_s(node.pid)
        time.sleep(seconds)
        ask("stop")
        stopped = time.monotonic()
        report = root / "meta" / "recording" / "000000.json"
        while not report.is_file() and time.monotonic() - stopped < 300:
            time.sleep(0.02)
        saved_s = time.monotonic() - stopped
        used_s = processor_s(node.pid) - before_s
        over.set()
        said = json.loads(report.read_text(encoding="utf-8"))
        rclpy.shutdown()
        return {"said": said, "saved s": saved_s, "memory": memory, "processor s": used_s,
                "sent": sent.get(timeout=30), "mb": _size_mb(root)}  # fmt: skip
    finally:
        over.set()
        node.send_signal(signal.SIGTERM)
        node.wait(timeout=60)
        if source.pid is not None:
            source.join(timeout=30)


def write_theirs(seconds: float, root: Path, answer: Queue) -> None:
    """Write the same pictures with LeRobot's writer, as lerobot-record sets it up."""
    os.environ.setdefault("SVT_LOG", "1")  # errors only
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    shape = {"shape": (HEIGHT, WIDTH, 3), "names": ["height", "width", "channels"]}
    features = {f"observation.images.{n}": {"dtype": "video", **shape} for n in CAMERAS}
    for key in ("observation.state", "action"):
        features[key] = {"dtype": "float32", "shape": (6,), "names": [f"j{i}" for i in range(6)]}
    dataset = LeRobotDataset.create(
        "a/b", CAMERA_HZ, features, root=root, image_writer_threads=4 * len(CAMERAS)
    )
    images, at = pictures(), np.zeros(6, np.float32)
    began, late, rows = time.monotonic(), 0, round(seconds * CAMERA_HZ)
    for k in range(rows):
        frame = {
            f"observation.images.{n}": images[(k + i) % _PICTURES] for i, n in enumerate(CAMERAS)
        }
        dataset.add_frame({**frame, "observation.state": at, "action": at, "task": "wave"})
        behind_s = time.monotonic() - began - (k + 1) / CAMERA_HZ
        late += behind_s > 1 / CAMERA_HZ
        time.sleep(max(0.0, -behind_s))
    took_s = time.monotonic() - began
    dataset.save_episode()
    dataset.finalize()
    answer.put({"rows": rows, "took s": took_s, "late": late,
                "saved s": time.monotonic() - began - took_s})  # fmt: skip
    time.sleep(1.0)


def measure_theirs(seconds: float, folder: Path) -> dict[str, object]:
    """Write with LeRobot's writer in a process of its own."""
    context = multiprocessing.get_context("spawn")
    answer, root = context.Queue(), folder / "theirs"
    process = context.Process(target=write_theirs, args=(seconds, root, answer))
    process.start()
    assert process.pid is not None
    memory = Memory(process.pid)
    said = answer.get(timeout=3600)
    used_s = processor_s(process.pid)
    process.join()
    return {**said, "memory": memory, "processor s": used_s, "mb": _size_mb(root)}


def _size_mb(root: Path) -> float:
    return sum(f.stat().st_size for f in root.rglob("*") if f.is_file()) / 1e6


def main() -> None:
    """Measure both and print them side by side."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=300.0)
    args = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="recording_"))
    try:
        ours, theirs = measure_ours(args.seconds, folder), measure_theirs(args.seconds, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    said, sent = ours["said"], ours["sent"]
    streams = said["streams"]
    cameras = [streams[name] for name in CAMERAS]
    table = Table(title=f"{len(CAMERAS)} cameras {WIDTH}x{HEIGHT} at {CAMERA_HZ} Hz, "
                  f"{args.seconds:g} s, {os.cpu_count()} cores")  # fmt: skip
    for column in ("", "recorder_node, over DDS", "LeRobot's writer, in a loop"):
        table.add_column(column, justify="left" if not column else "right")
    rows = theirs["rows"]
    for name, one, other in (
        ("rows", str(said["rows"]), str(rows)),
        ("images received", str(sum(c["received"] for c in cameras)), "-"),
        ("images in rows", str(sum(c["used"] for c in cameras)), str(rows * len(CAMERAS))),
        ("dropped / repeated", _both(cameras), "- / -"),
        ("late by a row and more", "-", str(theirs["late"])),
        (
            "rate reached",
            f"{said['rows'] / args.seconds:.1f} Hz",
            f"{rows / theirs['took s']:.1f} Hz",
        ),
        ("saved after the end", f"{ours['saved s']:.1f} s", f"{theirs['saved s']:.1f} s"),
        ("processor time", f"{ours['processor s']:.0f} s", f"{theirs['processor s']:.0f} s"),
        ("own memory: early, middle, end", f"{ours['memory']} MB", f"{theirs['memory']} MB"),
        ("on disk", f"{ours['mb']:.0f} MB (h264)", f"{theirs['mb']:.0f} MB (AV1)"),
    ):
        table.add_row(name, one, other)
    console = Console()
    console.print(table)
    console.print(
        f"processor time: {ours['processor s'] / theirs['processor s']:.2f} of LeRobot's writer; "
        f"wait after an episode: {ours['saved s'] / theirs['saved s']:.3f} of it. "
        f"The publisher sent {sent['ticks']} ticks in all, late by at most "
        f"{sent['worst late ms']:.0f} ms. Ended: {said['ended']}."
    )


def _both(cameras: list[dict[str, int]]) -> str:
    return f"{sum(c['dropped'] for c in cameras)} / {sum(c['repeated'] for c in cameras)}"


if __name__ == "__main__":
    main()
