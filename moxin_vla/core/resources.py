"""Shipped files, wherever the package came from: a source checkout, pip or colcon."""

import sys
from pathlib import Path

from moxin_vla.core.errors import MoxinVlaError, listed


def resource_path(relative: str) -> Path:
    """Return the path of a shipped file or folder, such as `config/embodiments/so101_sim.yaml`.

    A source checkout is looked at first, then `share/moxin_vla` of the install prefix (pip,
    colcon).

    Raises:
        MoxinVlaError: It is nowhere; lists the places.
    """
    package = Path(__file__).resolve().parents[2]
    prefixes = [package.parents[i] for i in range(min(4, len(package.parents)))]
    places = [
        package,
        *(prefix / "share" / "moxin_vla" for prefix in (Path(sys.prefix), *prefixes)),
    ]
    for place in places:
        if (place / relative).exists():
            return place / relative
    raise MoxinVlaError(f"'{relative}' is not installed. Looked in: {listed(places)}")
