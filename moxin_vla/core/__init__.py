"""What flows between the stages, and what must hold of it. Imports nobody above it."""
