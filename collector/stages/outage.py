"""Outages of the API: one request probes it, with growing pauses, while the others wait."""

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
    """The API did not answer; that says nothing about the page that was requested."""

    def __init__(self, trouble: Trouble, problem: str) -> None:
        super().__init__(problem)
        self.trouble = trouble
        self.problem = problem


class OutageWatch:
    """Whether the API answers, shared by all requests of one client.

    `clock` is monotonic seconds, `jitter` uniform in [0, 1). After the watch has given up on an
    outage, it sends nothing more.
    """

    def __init__(
        self, policy: OutagePolicy, clock: Callable[[], float], jitter: Callable[[], float]
    ) -> None:
        self._policy = policy
        self._clock = clock
        self._jitter = jitter
        self._probing = anyio.Lock()
        self._last: Unanswered | None = None  # None: no outage
        self._since = 0.0
        self._past_seconds = 0.0
        self._count = 0
        self._reached = False
        self._blocked = 0
        self._given_up: str | None = None

    @property
    def seconds(self) -> float:
        """Total length of all outages, including a current one."""
        return self._past_seconds + (self._lasted_seconds if self._last else 0.0)

    async def outlast(self, send: Send, witness: Send | None = None) -> Reply:
        """Return the answer to `send`; if it raises Unanswered, wait until the outage is over.

        During an outage one request probes and the others wait, except those that are in flight or
        wait for the rate limit. Raises Outage(api) in all of them when the watch gives up. If the
        prober is cancelled, another request takes over.

        From the MIN_API_ATTEMPTS-th failure on, the `witness`, another request, is sent too. If it
        is answered and this one then still is not, there is no outage: raises Unreadable.
        """
        while not self._given_up:
            if self._last is None:
                outages = self._count
                try:
                    return self._answered(await send())
                except Unanswered as unanswered:
                    # Concurrent failures count as one outage.
                    if outages == self._count and self._last is None:
                        self._note(unanswered)
            async with self._probing:
                if self._last:
                    return await self._probe(self._last, send, witness)
        raise Outage(Edge.API, self._given_up)

    async def _probe(self, unanswered: Unanswered, send: Send, witness: Send | None) -> Reply:
        for attempts in count(1):
            if self._is_enough(attempts):
                break
            await self._pause(attempts, unanswered)
            try:
                return self._answered(await send())
            except Unanswered as error:
                unanswered = error
                self._note(error)
            is_unsure = attempts + 1 >= MIN_API_ATTEMPTS and not self._blocked
            if is_unsure and witness is not None and await self._answers(witness):
                return await self._send_alone(send)
        raise self._give_up(unanswered)

    async def _answers(self, witness: Send) -> bool:
        try:
            self._answered(await witness())
        except PayloadError:
            return False
        except Unanswered as error:
            self._note(error)
            return False
        return True

    async def _send_alone(self, send: Send) -> Reply:
        """Send once more, now that the witness was answered. Raises Unreadable."""
        try:
            return self._answered(await send())
        except Unanswered as error:
            problem = f"no usable answer to this request alone ({error.problem})"
            raise Unreadable(Edge.API, problem) from None

    async def _pause(self, attempts: int, unanswered: Unanswered) -> None:
        # The last attempt is made when the time is up.
        seconds = min(self._policy.pause_seconds(attempts, self._jitter()), self._left_seconds)
        logger.info(
            "api: no answer for %.0f s (%s); retrying in %.1f s",
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

    def _answered(self, reply: Reply) -> Reply:
        self._reached = True
        if self._last:
            logger.info("api: answers again, after %.0f s", self._lasted_seconds)
            self._close()
        return reply

    def _close(self) -> None:
        self._past_seconds, self._last, self._blocked = self.seconds, None, 0
        self._count += 1

    def _is_enough(self, attempts: int) -> bool:
        if self._blocked:
            return self._blocked >= MAX_BLOCKED
        return attempts >= MIN_API_ATTEMPTS and self._left_seconds == 0.0

    def _give_up(self, unanswered: Unanswered) -> Outage:
        self._given_up = (
            f"the API blocks us ({unanswered.problem})"
            if self._blocked
            else f"no usable answer for {self._lasted_seconds:.0f} s ({unanswered.problem})"
        )
        self._close()
        return Outage(Edge.API, self._given_up)
