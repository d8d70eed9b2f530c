"""What Fast DDS leaves in shared memory when a process is killed, and its removal.

Each participant has a segment of 34 MB (our profile) and ports, each with a lock file that its
process holds by flock(2) as long as it lives. A killed process frees the lock and leaves the rest:
memory until the machine restarts, and ports that the next process of the same number trips over.
"""

import contextlib
import fcntl
import os
import re
import time
from pathlib import Path

_FOLDER = Path("/dev/shm")
_LOCK = re.compile(r"(fastdds|fastrtps)_([0-9a-f]{16}|port\d+)_el")
_NEWBORN_S = 60.0  # a process makes the lock first and holds it a moment later


def remove_abandoned(folder: Path = _FOLDER, newborn_s: float = _NEWBORN_S) -> int:
    """Remove segments and ports whose process has died; returns the bytes that were freed.

    What belongs to another user, or to a process that lives, stays.

    Args:
        folder: Where shared memory is.
        newborn_s: Locks younger than this stay, in [s].
    """
    freed = 0
    for lock in list(folder.iterdir()) if folder.is_dir() else ():
        if _LOCK.fullmatch(lock.name):
            with contextlib.suppress(OSError):  # of another user, or gone meanwhile
                freed += _remove_if_dead(lock, newborn_s)
    return freed


def _remove_if_dead(lock: Path, newborn_s: float) -> int:
    if time.time() - lock.stat().st_mtime < newborn_s or lock.stat().st_uid != os.getuid():
        return 0
    with lock.open("rb") as held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return 0  # it lives
        content = lock.with_name(lock.name.removesuffix("_el"))
        freed = content.stat().st_blocks * 512 if content.exists() else 0
        for file in (lock.with_name(f"sem.{content.name}_mutex"), content, lock):
            file.unlink(missing_ok=True)
    return freed
