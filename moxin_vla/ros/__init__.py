"""The border to ROS 2: conversions, QoS, DDS profile, lifecycle. With `nodes/` the only place that
imports rclpy.
"""
