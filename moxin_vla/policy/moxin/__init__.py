"""The Moxin-VLA architecture by config: fused towers, bidirectional trunk, parallel decoding."""
