"""Operator input -> joint targets: devices, what they mean for the arm, who takes over when."""
