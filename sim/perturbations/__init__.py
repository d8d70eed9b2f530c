"""Perturbations: what pushes an expert off its path, so that a policy learns the way back."""
