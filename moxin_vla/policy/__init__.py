"""Observation -> ActionChunk. Importing this package does not import torch."""
