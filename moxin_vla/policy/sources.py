"""What a user writes to name a checkpoint."""

from pathlib import Path


def may_be_hub_id(source: str) -> bool:
    """True for `owner/name`; a path that was mistyped has other parts or a folder that exists."""
    owner, _, name = source.partition("/")
    plain = bool(owner and name) and "/" not in name and not owner.startswith((".", "~"))
    return plain and not Path(owner).exists()
