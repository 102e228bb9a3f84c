"""How much a key may ask for: token buckets that refill evenly, a minute's worth deep.

Each answer says in OpenAI's `x-ratelimit-*` headers what is left, and a refusal says in Retry-After when to come back.
"""

import math
import time
from collections.abc import Callable

from tritonclip_server.gateway.access.keys import Key
from tritonclip_server.gateway.errors import ApiError

Clock = Callable[[], float]

MANY_BUCKETS = 1000


class TokenBucket:
    """Holds a minute's worth, and refills at that rate."""

    def __init__(self, per_minute: int, clock: Clock) -> None:
        self.per_minute = per_minute
        self._clock = clock
        self._level = float(per_minute)
        self._filled = clock()

    def take(self, count: int) -> float:
        """Take so many, and return 0; or take none, and return the seconds until there will be enough."""
        self._refill()
        missing = count - self._level
        if missing > 0:
            return self._seconds(missing)
        self._level -= count
        return 0.0

    def give_back(self, count: int) -> None:
        """Undo a `take`."""
        self._refill()
        self._level = min(self.per_minute, self._level + count)

    def headers(self, unit: str) -> dict[str, str]:
        """The three headers of this limit."""
        self._refill()
        return {
            f"x-ratelimit-limit-{unit}": str(self.per_minute),
            f"x-ratelimit-remaining-{unit}": str(int(self._level)),
            f"x-ratelimit-reset-{unit}": f"{self._seconds(self.per_minute - self._level):.3g}s",
        }

    @property
    def full(self) -> bool:
        """Whether it is as good as new."""
        self._refill()
        return self._level >= self.per_minute

    def _refill(self) -> None:
        now = self._clock()
        self._level = min(self.per_minute, self._level + (now - self._filled) * self.per_minute / 60)
        self._filled = now

    def _seconds(self, count: float) -> float:
        return count * 60 / self.per_minute


class RateLimiter:
    """The buckets of all keys that asked within the last minute; a full one is forgotten when there are many."""

    def __init__(self, clock: Clock = time.monotonic) -> None:
        self._clock = clock
        self._buckets: dict[tuple[str, str], TokenBucket] = {}

    @property
    def buckets(self) -> int:
        """How many are kept."""
        return len(self._buckets)

    def charge(self, key: Key, unit: str, count: int, headers: dict[str, str]) -> None:
        """Take `count` "requests" or "images" from a key's minute; raises ApiError where they are used up.

        Either way `headers` then says what is left.
        """
        per_minute = key.requests_per_minute if unit == "requests" else key.images_per_minute
        if per_minute is None:
            return
        bucket = self._buckets.get((key.id, unit))
        if bucket is None or bucket.per_minute != per_minute:  # new, or the key file changed
            if len(self._buckets) >= MANY_BUCKETS:
                self._buckets = {name: kept for name, kept in self._buckets.items() if not kept.full}
            bucket = self._buckets[key.id, unit] = TokenBucket(per_minute, self._clock)
        wait = bucket.take(count)
        headers |= bucket.headers(unit)
        if not wait:
            return
        message = f"this key may ask for {per_minute} {unit} a minute"
        if count > per_minute:
            message += f", fewer than the {count} of this request: split it"
        raise ApiError("rate_limit_exceeded", message, retry_after=math.ceil(wait))

    def give_back(self, key: Key, unit: str, count: int) -> None:
        """Undo a `charge` of what was not done after all."""
        if bucket := self._buckets.get((key.id, unit)):
            bucket.give_back(count)
