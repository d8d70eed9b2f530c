"""Commands leave as the message that the robot's controller takes."""

import rclpy
from rclpy.lifecycle import TransitionCallbackReturn
from std_msgs.msg import Float64MultiArray

from moxin_vla.core.types import Command, ControlMode
from moxin_vla.nodes.control_node import ControlNode
from moxin_vla.ros.conversions import forward_command_message, joint_state_message
from moxin_vla.ros.qos import COMMAND


def control_node(embodiment_path, command_type):
    arguments = ["--ros-args", "-p", f"embodiment:={embodiment_path}", "-p", "lockstep:=true"]
    arguments += ["-p", "chunk_wait_s:=0.0", "-p", f"command_type:={command_type}"]
    rclpy.init(args=arguments)
    return ControlNode()


def test_a_forward_controller_gets_bare_positions(listener, embodiment, embodiment_path):
    node = control_node(embodiment_path, "float64_multi_array")
    try:
        assert node.trigger_configure() is TransitionCallbackReturn.SUCCESS
        assert node.trigger_activate() is TransitionCallbackReturn.SUCCESS
        heard = listener.hear(Float64MultiArray, "control_node/command", COMMAND)
        joints = listener.node.create_publisher(
            type(joint_state_message(0, [], [])), embodiment.joint_states_topic, COMMAND
        )
        pose = [0.1, -0.2, 0.3, 0.4, 0.5, 0.6]
        message = joint_state_message(1_000_000_000, embodiment.joint_names, pose)

        def step():
            joints.publish(message)
            rclpy.spin_once(node, timeout_sec=0.01)
            return heard

        listener.until(step, "a command arrives")
        assert list(heard[0].data) == pose  # nothing was ever planned: it holds where it is
    finally:
        node.trigger_shutdown()
        node.destroy_node()
        rclpy.shutdown()


def test_an_unknown_command_type_is_refused(embodiment_path, domain_id, capfd):
    node = control_node(embodiment_path, "smoke_signals")
    try:
        assert node.trigger_configure() is TransitionCallbackReturn.FAILURE
        assert (
            "Unknown command_type 'smoke_signals'. "
            "Choose from: joint_trajectory, float64_multi_array"
        ) in capfd.readouterr().err
    finally:
        node.destroy_node()
        rclpy.shutdown()


def test_the_order_is_the_embodiments():
    command = Command(0, [1.0, 2.0], ControlMode.RUNNING)
    assert list(forward_command_message(command).data) == [1.0, 2.0]
