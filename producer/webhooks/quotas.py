"""How many webhooks are taken from Redis and not yet told: what is slow leaves room for others."""

from __future__ import annotations

import random
import threading
from collections import Counter
from typing import Final

#: All in all, of one host, and of one API key's name.
HELD: Final = 64
HELD_EACH_HOST: Final = 16
HELD_EACH_NAME: Final = 32
#: What finds no room comes again at so many a second, by chance, within these bounds in seconds.
PUT_OFF_RATE: Final = 100
SHORTEST_PUT_OFF_S: Final = 0.1
LONGEST_PUT_OFF_S: Final = 60.0

#: A host, and the name of an API key: who has a share of what can be done at once.
Share = tuple[str, str]


class DeliveryQuotas:
    """How much is held, of each host and each name; thread-safe."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._held: Counter[Share] = Counter()
        #: How many were put off since a host had nothing to be sent.
        self._put_off: Counter[str] = Counter()

    @property
    def held(self) -> int:
        with self._changed:
            return self._held.total()

    @property
    def room(self) -> int:
        return HELD - self.held

    def take(self, share: Share) -> float | None:
        """Hold one more; where its host or its name has its share, the seconds to put it off."""
        host, name = share
        with self._changed:
            if self._of(0, host) < HELD_EACH_HOST and self._of(1, name) < HELD_EACH_NAME:
                self._held[share] += 1
                return None
            self._put_off[host] += 1
            within_s = min(self._put_off[host] / PUT_OFF_RATE, LONGEST_PUT_OFF_S)
            return random.uniform(SHORTEST_PUT_OFF_S, SHORTEST_PUT_OFF_S + within_s)

    def give_back(self, share: Share) -> None:
        host, _ = share
        with self._changed:
            self._held[share] -= 1
            self._held += Counter()
            if not self._of(0, host):
                del self._put_off[host]
            self._changed.notify_all()

    def wait_until_none(self, wait_s: float) -> None:
        with self._changed:
            self._changed.wait_for(lambda: not self._held, wait_s)

    def _of(self, place: int, wanted: str) -> int:
        return sum(held for share, held in self._held.items() if share[place] == wanted)
