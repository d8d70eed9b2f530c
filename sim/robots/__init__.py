"""Robot models: MJCF from packages, cheap visuals, closed-form kinematics."""
