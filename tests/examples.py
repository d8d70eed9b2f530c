"""How many examples a property is tried on: a few hundred, always the same ones; nightly,
MOXIN_VLA_EXAMPLES new ones.
"""

import os

from hypothesis import settings

EXAMPLES = int(os.environ.get("MOXIN_VLA_EXAMPLES", "300"))
_NIGHTLY = "MOXIN_VLA_EXAMPLES" in os.environ

SETTINGS = settings(
    max_examples=EXAMPLES, deadline=None, derandomize=not _NIGHTLY, database=None, print_blob=True
)
FEWER = settings(SETTINGS, max_examples=max(1, EXAMPLES if _NIGHTLY else EXAMPLES // 3))
