import os
import subprocess
import sys

import pytest
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image
from std_msgs.msg import Empty

from moxin_vla.core.resources import resource_path
from moxin_vla.ros.dds import dds_environment

SENT, ATTEMPTS = 100, 3
BEST_EFFORT = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)

PUBLISHER = f"""
import time, numpy as np, rclpy
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image
from std_msgs.msg import Empty
from moxin_vla.ros.conversions import image_message
rclpy.init()
node = rclpy.create_node("publisher")
qos = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)
images, done = node.create_publisher(Image, "image", qos), node.create_publisher(Empty, "done", 1)
while not (images.get_subscription_count() and done.get_subscription_count()):
    time.sleep(0.02)
pixels = np.random.default_rng(0).integers(0, 256, (480, 640, 3), dtype=np.uint8)
for index in range({SENT}):
    images.publish(image_message(index, "camera", pixels))
    time.sleep(1 / 30)
done.publish(Empty())
done.wait_for_all_acked()
node.destroy_node()
rclpy.shutdown()
"""


def test_every_vga_image_arrives_between_processes_best_effort(listener, domain_id: int) -> None:
    """With the default profile a few percent arrive; a busy machine may cost single images."""
    arrived = []
    while len(arrived) < ATTEMPTS and SENT not in arrived:
        arrived.append(_send_and_count(listener, domain_id))
    assert SENT in arrived, arrived


def _send_and_count(listener, domain_id: int) -> int:
    images = listener.hear(Image, "image", BEST_EFFORT)
    done = listener.hear(Empty, "done", 1)
    command = [sys.executable, "-c", PUBLISHER]
    publisher = subprocess.Popen(command, env=dds_environment(domain_id))
    try:
        listener.until(lambda: done, "the publisher is done")
    finally:
        publisher.kill()
        publisher.wait()
    return len(images)


def test_the_shipped_profile_is_the_one_in_use(domain_id: int) -> None:
    assert os.environ["FASTDDS_DEFAULT_PROFILES_FILE"] == str(
        resource_path("config/dds/fastdds.xml")
    )


def test_a_profile_of_the_users_own_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTDDS_DEFAULT_PROFILES_FILE", "/mine.xml")
    assert dds_environment()["FASTDDS_DEFAULT_PROFILES_FILE"] == "/mine.xml"


def test_a_private_domain_does_not_leave_the_machine() -> None:
    environment = dds_environment(42)
    assert environment["ROS_DOMAIN_ID"] == "42"
    assert environment["ROS_AUTOMATIC_DISCOVERY_RANGE"] == "LOCALHOST"
