"""The Moxin-VLA architecture by config: fused vision towers, bidirectional trunk, parallel action decoding."""
