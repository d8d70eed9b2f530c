"""Two ends of a measurement: how many large images get from one process to another (`python -m ...
send | receive`).
"""

import sys
import time

import numpy as np
import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image

from moxin_vla.ros.conversions import image_message
from moxin_vla.ros.dds import apply_dds_profile

TOPIC, RATE_HZ, IMAGES, SHAPE = "/moxin_dds_probe", 60.0, 100, (480, 640, 3)
_PATIENCE_S = 30.0
_QOS = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)


def send() -> None:
    """Wait for a receiver, then publish IMAGES images at RATE_HZ."""
    node = rclpy.create_node("moxin_dds_sender")
    publisher = node.create_publisher(Image, TOPIC, _QOS)
    deadline = time.monotonic() + _PATIENCE_S
    while publisher.get_subscription_count() == 0 and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.5)
    pixels = np.random.default_rng(0).integers(0, 256, SHAPE, np.uint8)
    for index in range(IMAGES):
        publisher.publish(image_message(index + 1, "probe", pixels))
        time.sleep(1 / RATE_HZ)
    time.sleep(2.0)


def receive() -> None:
    """Count images until they stop coming; print `RECEIVED n of`."""
    node = rclpy.create_node("moxin_dds_receiver")
    seen: list[float] = []
    node.create_subscription(Image, TOPIC, lambda _: seen.append(time.monotonic()), _QOS)
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    deadline = time.monotonic() + _PATIENCE_S
    while time.monotonic() < deadline and len(seen) < IMAGES:
        executor.spin_once(timeout_sec=0.1)
        if seen and time.monotonic() - seen[-1] > 1.5:
            break
    print("RECEIVED", len(seen), IMAGES, flush=True)


def main() -> None:
    """Run one end."""
    apply_dds_profile(images=True)
    rclpy.init()
    try:
        {"send": send, "receive": receive}[sys.argv[1]]()
    finally:
        rclpy.try_shutdown()


if __name__ == "__main__":
    main()
