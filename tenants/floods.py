"""What can be done over and over, as guessing at a key, is recorded at growing distances: a flood fills no audit.

Within a minute the first, second, fourth, eighth… time is recorded, with its number: nothing goes unnoticed, the number
is never less than half of what happened, and ten thousand attempts make fourteen records.
"""

from hashlib import sha256

from tenants import clock
from tenants.valkey import VALKEY_ERRORS, sync_client

WINDOW_S = 60


def due(*what: object) -> int:
    """Count one more time of `what` within this minute: its number where that is to be recorded, else 0.

    Without Valkey each is the first.
    """
    minute = int(clock.now().timestamp()) // WINDOW_S
    name = sha256("\0".join(map(str, what)).encode()).hexdigest()[:32]  # Keys are no place for addresses.
    try:
        with sync_client().pipeline() as pipeline:
            key = f"custos:flood:{name}:{minute}"
            pipeline.incr(key)
            pipeline.expire(key, 2 * WINDOW_S)
            count = int(pipeline.execute()[0])
    except VALKEY_ERRORS:
        return 1
    return count if count & (count - 1) == 0 else 0
