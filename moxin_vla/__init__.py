"""moxin_vla: a robot control stack for vision-language-action policies.

Pixels and joints become an `Observation`; a policy turns it into an `ActionChunk`; the runtime
puts the chunk on the clock; safety has the last word; one `Command` leaves per control tick.
ARCHITECTURE.md reads in that order.
"""

__version__ = "0.1.0"
