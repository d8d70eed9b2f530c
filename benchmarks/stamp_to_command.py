"""What the stack adds between an image's stamp and the command that it leads to.

    python benchmarks/stamp_to_command.py [--seconds 20]

A camera process publishes two 640x480 cameras at 30 Hz and joint states at 100 Hz over DDS;
policy_node plans from every image pair with a policy that costs next to nothing; control_node
ticks at 100 Hz. The image's number travels in the joint angles, so each command says which image
it stems from. In the same run LeRobot's asynchronous policy server gets the same images over gRPC
from its own client's messages, as often. It takes its own policy types only, so it loads a tiny
ACT; that answers zeros at once, because its real answer takes most of a second here and would
leave a dozen samples. Both sides are charged for everything but their policy's own time.

The second half needs the extras `data` and `dev`; without, it is left out.
"""

import argparse
import multiprocessing
import os
import pickle
import tempfile
import time
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Event
from pathlib import Path

import numpy as np
import yaml
from rich.console import Console
from rich.table import Table

from moxin_vla.core.resources import resource_path
from moxin_vla.ros.bringup import Bringup
from moxin_vla.ros.dds import apply_dds_profile
from moxin_vla.system import SystemConfig

WIDTH, HEIGHT, CAMERA_HZ, JOINTS_HZ, CONTROL_HZ = 640, 480, 30, 100, 100.0
_PER_IMAGE_RAD = 1e-5  # how far the joints move from one image to the next: its number, in fact
_WARM_UP = 30  # images whose numbers do not count
_DOMAIN = 60 + os.getpid() % 40


def write_embodiment(folder: Path) -> Path:
    """Write a robot with two large cameras that ticks at 100 Hz."""
    source = resource_path("config/embodiments/so101_sim.yaml").read_text(encoding="utf-8")
    content = yaml.safe_load(source)
    content["control_rate_hz"] = CONTROL_HZ
    for camera in content["cameras"]:
        camera |= {"width": WIDTH, "height": HEIGHT}
    path = folder / "embodiment.yaml"
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return path


def publish(embodiment: Path, domain: int, seconds: float, over: Event, sent: Queue) -> None:
    """Be the cameras and the driver until it is over; put {number: stamp} at the end."""
    apply_dds_profile(domain, images=True)
    import rclpy
    from sensor_msgs.msg import Image, JointState

    from moxin_vla.core.embodiment import load_embodiment
    from moxin_vla.ros.conversions import image_message, joint_state_message, ns_to_time
    from moxin_vla.ros.qos import IMAGE_PUBLISHER, JOINTS_PUBLISHER

    robot = load_embodiment(embodiment)
    rclpy.init()
    node = rclpy.create_node("cameras")
    cameras = {
        camera.name: node.create_publisher(Image, camera.topic, IMAGE_PUBLISHER)
        for camera in robot.cameras
    }
    joints = node.create_publisher(JointState, robot.joint_states_topic, JOINTS_PUBLISHER)
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (4, HEIGHT, WIDTH, 3), dtype=np.uint8)
    messages = {  # made beforehand: how a driver fills its messages is not what is measured
        name: [image_message(0, name, picture) for picture in pictures] for name in cameras
    }
    stamps: dict[int, int] = {}

    def joint_state(number: int) -> int:
        stamp = time.time_ns()
        pose = np.full(robot.dof, number * _PER_IMAGE_RAD)
        joints.publish(joint_state_message(stamp, robot.joint_names, pose))
        return stamp

    number, started, tick = 0, time.monotonic(), 0
    while time.monotonic() - started < seconds + 60:
        due = started + tick / JOINTS_HZ
        time.sleep(max(0.0, due - time.monotonic()))
        image_due = tick * CAMERA_HZ // JOINTS_HZ > (tick - 1) * CAMERA_HZ // JOINTS_HZ
        number += image_due
        stamp = joint_state(number)
        if image_due:
            for name, publisher in cameras.items():
                message = messages[name][number % 4]
                message.header.stamp = ns_to_time(stamp)
                publisher.publish(message)
            stamps[number] = stamp
        tick += 1
        if over.is_set():
            break
    sent.put(stamps)
    node.destroy_node()
    rclpy.shutdown()


def listen(seconds: float) -> tuple[dict[int, int], dict[int, tuple[int, int]], dict[str, str]]:
    """Hear chunks and commands for a while.

    Returns:
        Chunk's observation stamp -> when it was heard; image number -> (when its first command was
        heard, that command's tick), all in [ns]; the last status of policy_node.
    """
    import rclpy
    from diagnostic_msgs.msg import DiagnosticStatus
    from rclpy.executors import SingleThreadedExecutor
    from trajectory_msgs.msg import JointTrajectory

    from moxin_vla.core.messages import time_to_ns
    from moxin_vla.ros.diagnostics import status_values
    from moxin_vla.ros.qos import LATCHED, RECORDING

    rclpy.init()
    node = rclpy.create_node("listener")
    chunks: dict[int, int] = {}
    commands: dict[int, tuple[int, int]] = {}
    status: dict[str, str] = {}

    def on_chunk(message: JointTrajectory) -> None:
        chunks.setdefault(time_to_ns(message.header.stamp), time.time_ns())

    def on_command(message: JointTrajectory) -> None:
        number = round(message.points[0].positions[0] / _PER_IMAGE_RAD)
        commands.setdefault(number, (time.time_ns(), time_to_ns(message.header.stamp)))

    def on_status(message: DiagnosticStatus) -> None:
        status.update(status_values(message))

    node.create_subscription(JointTrajectory, "policy_node/action_chunk", on_chunk, RECORDING)
    node.create_subscription(JointTrajectory, "control_node/command", on_command, RECORDING)
    node.create_subscription(DiagnosticStatus, "policy_node/status", on_status, LATCHED)
    from std_msgs.msg import String

    from moxin_vla.ros.qos import COMMAND

    instruction = node.create_publisher(String, "policy_node/instruction", COMMAND)
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if not chunks and instruction.get_subscription_count():
            instruction.publish(String(data="stand still"))
            time.sleep(0.1)
        executor.spin_once(timeout_sec=0.05)
    node.destroy_node()
    rclpy.shutdown()
    return chunks, commands, status


def measure_ours(seconds: float, folder: Path) -> dict[str, object]:
    """Run our nodes; returns milliseconds per stage."""
    embodiment = write_embodiment(folder)
    context = multiprocessing.get_context("spawn")
    over, sent = context.Event(), context.Queue()
    source = context.Process(target=publish, args=(embodiment, _DOMAIN, seconds, over, sent))
    source.start()
    config = SystemConfig(
        embodiment, "scripted:hold", execution_horizon=1, simulation=False, dry_run=False,
        domain_id=_DOMAIN,
    )  # fmt: skip
    try:
        with Bringup(config):
            apply_dds_profile(_DOMAIN)
            chunks, commands, status = listen(seconds)
        over.set()
        stamps = sent.get(timeout=30)
    finally:
        over.set()
        source.join(timeout=30)
    inference = float(status.get("inference p50 ms", "nan"))
    first = min(commands, default=0)  # commands may be discovered seconds later than chunks
    seen = [n for n, stamp in stamps.items() if stamp in chunks and n >= first]
    counted = [n for n in seen[_WARM_UP:] if n in commands]
    window = range(min(seen[_WARM_UP:], default=0), max(seen, default=0) + 1)
    received = np.array([(chunks[stamps[n]] - stamps[n]) / 1e6 for n in counted])
    total = np.array([(commands[n][0] - stamps[n]) / 1e6 for n in counted])
    wait = np.array([(commands[n][1] - chunks[stamps[n]]) / 1e6 for n in counted])
    return {
        "chunk": received - inference,
        "wait": np.maximum(wait, 0),
        "command": total - np.maximum(wait, 0) - inference,
        "inference": inference,
        "published": len(window),
        "planned": sum(n in commands or stamps[n] in chunks for n in window if n in stamps),
        "commanded": len(counted),
    }


def serve_lerobot(folder: Path, port: int, times: Queue) -> None:
    """Run LeRobot's policy server in this process, noting its policy's own time.

    It writes `logs/` where it stands, so it stands in `folder`.
    """
    os.chdir(folder)
    import logging
    from concurrent import futures

    import grpc
    import torch
    from lerobot.async_inference.configs import PolicyServerConfig
    from lerobot.async_inference.policy_server import PolicyServer
    from lerobot.transport import services_pb2_grpc

    logging.disable(logging.CRITICAL)
    torch.set_num_threads(1)

    class Timed(PolicyServer):
        def _get_action_chunk(self, observation: dict) -> torch.Tensor:
            started = time.perf_counter()
            config = self.policy.config
            chunk = torch.zeros(1, config.chunk_size, config.action_feature.shape[0])
            times.put(1e3 * (time.perf_counter() - started))
            return chunk

    server = grpc.server(futures.ThreadPoolExecutor(max_workers=4))
    config = PolicyServerConfig(
        host="127.0.0.1", port=port, fps=CAMERA_HZ, inference_latency=0.0, obs_queue_timeout=2.0
    )
    services_pb2_grpc.add_AsyncInferenceServicer_to_server(Timed(config), server)
    server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    server.wait_for_termination()


def write_act(folder: Path, joints: list[str]) -> Path:
    """Save the smallest ACT with its processors."""
    from lerobot.configs.types import FeatureType, PolicyFeature
    from lerobot.policies.act.configuration_act import ACTConfig
    from lerobot.policies.act.modeling_act import ACTPolicy
    from lerobot.policies.factory import make_pre_post_processors

    images = {
        f"observation.images.{name}": PolicyFeature(FeatureType.VISUAL, (3, HEIGHT, WIDTH))
        for name in ("front", "wrist")
    }
    config = ACTConfig(
        input_features={
            "observation.state": PolicyFeature(FeatureType.STATE, (len(joints),)), **images
        },
        output_features={"action": PolicyFeature(FeatureType.ACTION, (len(joints),))},
        device="cpu", chunk_size=16, n_action_steps=16, dim_model=32, n_heads=2,
        dim_feedforward=32, n_encoder_layers=1, n_decoder_layers=1, use_vae=False,
        pretrained_backbone_weights=None,
    )  # fmt: skip
    ACTPolicy(config).save_pretrained(folder)
    state = {"mean": np.zeros(len(joints), np.float32), "std": np.ones(len(joints), np.float32)}
    pixels = {"mean": np.zeros((3, 1, 1), np.float32), "std": np.ones((3, 1, 1), np.float32)}
    statistics = {"observation.state": state, "action": state} | dict.fromkeys(images, pixels)
    for processor in make_pre_post_processors(config, dataset_stats=statistics):
        processor.save_pretrained(folder)
    return folder


def measure_lerobot(seconds: float, folder: Path) -> tuple[np.ndarray, float]:
    """Send observations as LeRobot's client does; returns overheads and median inference, [ms]."""
    import grpc
    from lerobot.async_inference.helpers import RemotePolicyConfig, TimedObservation
    from lerobot.transport import services_pb2, services_pb2_grpc
    from lerobot.transport.utils import grpc_channel_options, send_bytes_in_chunks

    joints = [f"joint_{i}.pos" for i in range(6)]
    checkpoint, port = write_act(folder / "act", joints), 20000 + os.getpid() % 20000
    context = multiprocessing.get_context("spawn")
    times = context.Queue()
    server = context.Process(target=serve_lerobot, args=(folder, port, times), daemon=True)
    server.start()
    features = {"observation.state": {"dtype": "float32", "shape": (6,), "names": joints}}
    for name in ("front", "wrist"):
        features[f"observation.images.{name}"] = {
            "dtype": "image", "shape": (HEIGHT, WIDTH, 3),
            "names": ["height", "width", "channels"],
        }  # fmt: skip
    pictures = np.random.default_rng(0).integers(0, 256, (4, HEIGHT, WIDTH, 3), dtype=np.uint8)
    overheads, inferences = [], []
    try:
        with grpc.insecure_channel(f"127.0.0.1:{port}", grpc_channel_options()) as channel:
            stub = services_pb2_grpc.AsyncInferenceStub(channel)
            stub.Ready(services_pb2.Empty(), timeout=60, wait_for_ready=True)
            told = RemotePolicyConfig("act", str(checkpoint), features, 16, "cpu")
            stub.SendPolicyInstructions(services_pb2.PolicySetup(data=pickle.dumps(told)))
            due, step = time.monotonic(), 0
            deadline = due + seconds
            while time.monotonic() < deadline:
                time.sleep(max(0.0, due - time.monotonic()))
                due = max(due, time.monotonic() - 1 / CAMERA_HZ) + 1 / CAMERA_HZ
                raw = {"front": pictures[step % 4], "wrist": pictures[step % 4], "task": "hold"}
                raw |= {name: float(step) for name in joints}
                captured = time.time()
                sent = TimedObservation(
                    timestamp=captured, observation=raw, timestep=step, must_go=True
                )
                chunks = send_bytes_in_chunks(
                    pickle.dumps(sent), services_pb2.Observation, silent=True
                )
                stub.SendObservations(chunks)
                reply = stub.GetActions(services_pb2.Empty())
                pickle.loads(reply.data)
                total = 1e3 * (time.time() - captured)
                inferences.append(times.get(timeout=10))
                overheads.append(total - inferences[-1])
                step += 1
    finally:
        server.terminate()
        server.join(timeout=10)
    return np.array(overheads[_WARM_UP:]), float(np.median(inferences[_WARM_UP:]))


def main() -> None:
    """Measure both and print the ratio."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=20.0, help="of each half")
    args = parser.parse_args()
    console = Console()
    table = Table(title="Image stamp to command, beyond the policy's own time")
    for column in ("what", "median ms", "p99 ms"):
        table.add_column(column, justify="left" if column == "what" else "right")

    def row(name: str, values: np.ndarray) -> None:
        table.add_row(name, f"{np.median(values):.2f}", f"{np.percentile(values, 99):.2f}")

    with tempfile.TemporaryDirectory() as temporary:
        ours = measure_ours(args.seconds, Path(temporary))
        row("ours: stamp to chunk heard in another process", ours["chunk"])
        row("ours: stamp to command, waiting for the tick left out", ours["command"])
        row(f"ours: waiting for the tick of {CONTROL_HZ:g} Hz", ours["wait"])
        try:
            theirs, inference = measure_lerobot(args.seconds, Path(temporary))
            row("LeRobot: observation to chunk at the client", theirs)
        except ImportError as error:
            theirs, inference = None, float("nan")
            console.print(f"LeRobot's half was left out: {error}")
    console.print(table)
    console.print(
        f"policy's own time, not counted: ours {ours['inference']:.2f} ms, "
        f"LeRobot's {inference:.2f} ms; samples: ours {len(ours['chunk'])}, "
        f"LeRobot's {0 if theirs is None else len(theirs)}\n"
        f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"
    )
    console.print(
        f"image pairs published {ours['published']}, planned from {ours['planned']}, in a command "
        f"{ours['commanded']} (the rest was overtaken by the next image's chunk before a tick)"
    )
    if theirs is not None:
        ratio = np.median(ours["chunk"]) / np.median(theirs)
        console.print(f"stamp to chunk, ours / LeRobot: {ratio:.2f}")


if __name__ == "__main__":
    main()
