"""The answer to `~/reset`: up to which stamp the node had seen everything when it began afresh."""

import re

from std_srvs.srv import Trigger

_SEEN = re.compile(r"data stamped up to (\d+) ns")


def reset_answer(response: Trigger.Response, seen_ns: int) -> Trigger.Response:
    """Fill in the answer of a node whose every stream had reached `seen_ns`, in [ns]."""
    response.success = True
    response.message = f"reset; data stamped up to {seen_ns} ns had arrived and no longer counts"
    return response


def seen_ns(response: Trigger.Response) -> int:
    """Return the stamp in a node's answer, in [ns]; 0 if it names none."""
    found = _SEEN.search(response.message)
    return int(found[1]) if found else 0
