"""Scenes: what stands around the robot."""
