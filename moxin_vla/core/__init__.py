"""Core: what flows between the stages, and what must hold of it. Imports nobody above it.

`types` are the data, `protocols` the seams, `embodiment` the robot, `clock` injected time and
`errors` everything a user can mend. Needs numpy and YAML only.
"""
