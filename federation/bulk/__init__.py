"""The bulk stream: objects by name, in parts, resumable, digest-checked; the same frames whichever side dialled.

The gateway asks (`asking`), the node agent answers (`answering`). A slow asker holds up nobody: each object has a window
of its own, and the stream has a connection of its own beside the session.
"""

PART_SIZE = 128 * 1024
"""Bytes of one part: small enough that several objects share a stream fairly."""

WINDOW = 1 << 20
"""Bytes of one object that may be under way to an asker."""

LEAST_COUNTED = 1024
"""Bytes that a part counts for at least: keeping one that holds nothing costs as much. Its frame holds no more beside the data."""

BEAT_EVERY_S, DEAD_AFTER_S = 15.0, 45.0
MOST_AT_ONCE = 16
"""Objects answered at the same time on one stream."""

LARGEST_BODY = 256 * 1024
"""Bytes that may be sent along with a question."""
