"""Quality of service: sensors as REP-2003 has them, commands reliable, status latched."""

from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy

COMMAND = QoSProfile(depth=10, reliability=ReliabilityPolicy.RELIABLE)
LATCHED = QoSProfile(
    depth=1, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL
)
SENSOR_PUBLISHER = QoSProfile(depth=5, reliability=ReliabilityPolicy.RELIABLE)


def sensor_subscription(lossless: bool) -> QoSProfile:
    """Return the profile of a sensor subscription: best effort fits any driver, lossless is for lockstep."""
    reliability = ReliabilityPolicy.RELIABLE if lossless else ReliabilityPolicy.BEST_EFFORT
    return QoSProfile(depth=10 if lossless else 5, reliability=reliability)
