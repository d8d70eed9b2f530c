"""Episodes -> LeRobotDataset v3, through lerobot's own writer."""
