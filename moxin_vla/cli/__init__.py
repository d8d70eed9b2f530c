"""The `moxin-vla` command."""
