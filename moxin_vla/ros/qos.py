"""Quality of service: sensors as REP-2003 has them, commands reliable, status latched.

Publishers keep more than subscribers: a recorder or evaluator that falls behind for a moment still
gets everything, while a node that acts on data only queues what is recent.
"""

from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy

COMMAND = QoSProfile(depth=10, reliability=ReliabilityPolicy.RELIABLE)
COMMAND_PUBLISHER = QoSProfile(depth=200, reliability=ReliabilityPolicy.RELIABLE)
LATCHED = QoSProfile(
    depth=1, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL
)
LATCHED_PUBLISHER = QoSProfile(
    depth=50, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL
)
JOINTS_PUBLISHER = QoSProfile(depth=200, reliability=ReliabilityPolicy.RELIABLE)
IMAGE_PUBLISHER = QoSProfile(depth=10, reliability=ReliabilityPolicy.RELIABLE)
RECORDING = QoSProfile(depth=1000, reliability=ReliabilityPolicy.RELIABLE)
RECORDING_BEST_EFFORT = QoSProfile(depth=1000, reliability=ReliabilityPolicy.BEST_EFFORT)


def sensor_subscription(lossless: bool) -> QoSProfile:
    """Return a sensor's profile: best effort fits any driver, lossless is for lockstep."""
    reliability = ReliabilityPolicy.RELIABLE if lossless else ReliabilityPolicy.BEST_EFFORT
    return QoSProfile(depth=10 if lossless else 5, reliability=reliability)
