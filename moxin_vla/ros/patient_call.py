"""A service call that survives a lost request or answer.

A server may get a request before it has discovered where the answer goes; then the answer is lost
and the caller would wait for ever. So a call is made again until one is answered; use it for
services that may safely be called twice.
"""

import time
from collections.abc import Callable
from typing import Any

from rclpy.client import Client


def patient_call(
    client: Client,
    request: Any,
    spin_once: Callable[[], None],
    timeout_s: float,
    again_s: float = 2.0,
) -> Any:
    """Call a service until it answers; return the answer, or None if there was none in time.

    Args:
        client: Of the service.
        request: What to send, each time.
        spin_once: Handles messages for a short while; may raise to give up.
        timeout_s: How long to try, in [s]; the service may also appear during that time.
        again_s: How long to wait for an answer before the call is made again, in [s].
    """
    deadline, again, futures = time.monotonic() + timeout_s, 0.0, []
    while time.monotonic() < deadline:
        if time.monotonic() >= again and client.service_is_ready():
            futures.append(client.call_async(request))
            again = time.monotonic() + again_s
        spin_once()
        if answered := next((future for future in futures if future.done()), None):
            return answered.result()
    return None
