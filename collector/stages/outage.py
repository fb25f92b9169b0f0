"""Outages of the API: one request probes, with growing pauses, while the others wait."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from itertools import count

import anyio

from collector.core.errors import Edge, Outage, PayloadError, Unreadable
from collector.core.retry import (
    MAX_BLOCKED,
    MIN_API_ATTEMPTS,
    OutagePolicy,
    Trouble,
    is_sign_of_life,
)
from collector.logs import logger
from collector.ports import Reply

Send = Callable[[], Awaitable[Reply]]


class Unanswered(Exception):
    """What came is no answer; it says nothing about the page that was asked for."""

    def __init__(self, trouble: Trouble, problem: str) -> None:
        super().__init__(problem)
        self.trouble = trouble
        self.problem = problem


class OutageWatch:
    """Whether the API answers, as all requests of one client have found together.

    `clock` is monotonic seconds, `jitter` uniform in [0, 1). Once an outage was given up, nothing
    is sent any more.
    """

    def __init__(
        self, policy: OutagePolicy, clock: Callable[[], float], jitter: Callable[[], float]
    ) -> None:
        self._policy = policy
        self._clock = clock
        self._jitter = jitter
        self._probing = anyio.Lock()
        self._last: Unanswered | None = None  # None: no outage is on
        self._since = 0.0
        self._past_seconds = 0.0
        self._count = 0
        self._reached = False
        self._blocked = 0
        self._given_up: str | None = None

    @property
    def seconds(self) -> float:
        """How long outages have lasted, one that is on included."""
        return self._past_seconds + (self._lasted_seconds if self._last else 0.0)

    async def outlast(self, send: Send, witness: Send | None = None) -> Reply:
        """Return what `send` returns in the end; where it raises Unanswered, an outage is on.

        While one is on, the first who met it probes, and everybody else waits for that; those
        that are on their way already, or in line for the rate limit, still go. Raises Outage(api)
        in all of them where it is given up. Where a prober is cancelled, another one goes on.

        From the MIN_API_ATTEMPTS-th failure on, the `witness`, another request, is sent as well: if
        it is answered and this one is not even then, it is no outage, and Unreadable is raised.
        """
        while not self._given_up:
            if self._last is None:
                outages = self._count
                try:
                    return self._heard(await send())
                except Unanswered as unanswered:
                    # Others that were out with it have met the same outage, not one each.
                    if outages == self._count and self._last is None:
                        self._note(unanswered)
            async with self._probing:
                if self._last:
                    return await self._probe(self._last, send, witness)
        raise Outage(Edge.API, self._given_up)

    async def _probe(self, unanswered: Unanswered, send: Send, witness: Send | None) -> Reply:
        for tries in count(1):
            if self._is_enough(tries):
                break
            await self._pause(tries, unanswered)
            try:
                return self._heard(await send())
            except Unanswered as error:
                unanswered = error
                self._note(error)
            if tries + 1 >= MIN_API_ATTEMPTS and not self._blocked and await self._answers(witness):
                return await self._send_alone(send)
        raise self._give_up(unanswered)

    async def _answers(self, witness: Send | None) -> bool:
        if witness is None:
            return False
        try:
            self._heard(await witness())
        except PayloadError:
            return False
        except Unanswered as error:
            self._note(error)
            return False
        return True

    async def _send_alone(self, send: Send) -> Reply:
        """Send once more, now that another request was answered. Raises Unreadable."""
        try:
            return self._heard(await send())
        except Unanswered as error:
            problem = f"no usable answer to this request alone ({error.problem})"
            raise Unreadable(Edge.API, problem) from None

    async def _pause(self, tries: int, unanswered: Unanswered) -> None:
        # The last question is asked when the time is up.
        seconds = min(self._policy.pause_seconds(tries, self._jitter()), self._left_seconds)
        logger.info(
            "api: outage since %.0f s (%s); asking again in %.1f s",
            self._lasted_seconds,
            unanswered.problem,
            seconds,
        )
        await anyio.sleep(seconds)

    @property
    def _lasted_seconds(self) -> float:
        return self._clock() - self._since

    @property
    def _left_seconds(self) -> float:
        return self._policy.left_seconds(self._lasted_seconds, reached=self._reached)

    def _note(self, unanswered: Unanswered) -> None:
        if self._last is None:
            self._since = self._clock()
        self._last = unanswered
        self._reached = self._reached or is_sign_of_life(unanswered.trouble)
        self._blocked = self._blocked + 1 if unanswered.trouble is Trouble.BLOCK else 0

    def _heard(self, reply: Reply) -> Reply:
        self._reached = True
        if self._last:
            logger.info("api: answers again, after %.0f s", self._lasted_seconds)
            self._close()
        return reply

    def _close(self) -> None:
        self._past_seconds, self._last, self._blocked = self.seconds, None, 0
        self._count += 1

    def _is_enough(self, tries: int) -> bool:
        if self._blocked:
            return self._blocked >= MAX_BLOCKED
        return tries >= MIN_API_ATTEMPTS and self._left_seconds == 0.0

    def _give_up(self, unanswered: Unanswered) -> Outage:
        self._given_up = (
            f"the API blocks us ({unanswered.problem})"
            if self._blocked
            else f"no usable answer for {self._lasted_seconds:.0f} s ({unanswered.problem})"
        )
        self._close()
        return Outage(Edge.API, self._given_up)
