"""A killed process leaves no memory behind; a living one keeps its own."""

import fcntl
import os

from moxin_vla.ros.shared_memory import remove_abandoned

SEGMENT, PORT = "fastdds_0123456789abcdef", "fastdds_port7410"


def leave(folder, name, age_s=100.0):
    for file in (name, f"sem.{name}_mutex", f"{name}_el"):
        (folder / file).write_bytes(b"x" * 4096)
    lock = folder / f"{name}_el"
    os.utime(lock, (lock.stat().st_atime, lock.stat().st_mtime - age_s))
    return lock


def test_segments_and_ports_of_dead_processes_are_removed_and_counted(tmp_path):
    leave(tmp_path, SEGMENT)
    leave(tmp_path, PORT)
    assert remove_abandoned(tmp_path) >= 8192
    assert list(tmp_path.iterdir()) == []


def test_what_a_living_process_holds_stays(tmp_path):
    lock = leave(tmp_path, SEGMENT)
    with lock.open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert remove_abandoned(tmp_path) == 0
        assert len(list(tmp_path.iterdir())) == 3


def test_newborns_and_strangers_stay(tmp_path):
    leave(tmp_path, SEGMENT, age_s=1.0)
    (tmp_path / "psm_12345678").write_bytes(b"of somebody else")
    assert remove_abandoned(tmp_path) == 0
    assert len(list(tmp_path.iterdir())) == 4


def test_a_machine_without_shared_memory_is_no_error(tmp_path):
    assert remove_abandoned(tmp_path / "absent") == 0
