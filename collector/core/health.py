"""Tell an edge that is down from items that are bad."""

from __future__ import annotations

from collections import deque

from collector.core.errors import Code, Fault

# Failures that a host in trouble gives for any item, and a healthy one for hardly any.
OUTAGE_CODES = frozenset(
    {
        *(Code.SOURCE_ERROR, Code.FORBIDDEN, Code.HTML_RESPONSE, Code.STORE_ERROR),
        Code.REDIRECT_REFUSED,
    }
)
# Twenty answers are enough to tell a bad hour from a bad item; more than half of them bad is
# nothing that retries of single items would mend.
WINDOW_TRIES = 20
MAX_FAILING_SHARE = 0.5
# With no answer at all, this many tries say that it is the host: a run may have few items.
LEAST_TRIES = 5


class EdgeHealth:
    """The last tries at one edge: was it answering?"""

    def __init__(self) -> None:
        self._failing: deque[bool] = deque(maxlen=WINDOW_TRIES)
        self._tries = 0
        self._answered = False
        self._unreachable = False

    def answered(self) -> None:
        """Note a try that the edge answered, be it with a bad item."""
        self._tries += 1
        self._failing.append(False)
        self._answered = True

    def failed(self, code: Code, fault: Fault) -> None:
        """Note a failed try; `fault` systemic says that nobody could be reached."""
        if code not in OUTAGE_CODES:
            self.answered()
            return
        self._tries += 1
        self._failing.append(True)
        self._unreachable = self._unreachable or fault is Fault.SYSTEMIC

    @property
    def ends_failing(self) -> bool:
        """True where the last try failed as a host in trouble fails."""
        return bool(self._failing) and self._failing[-1]

    def acquit(self) -> None:
        """The edge has proved to be well: what failed so far says nothing against it."""
        self._failing.clear()
        self._answered = True

    @property
    def is_unreachable(self) -> bool:
        """True where some try could reach nobody: no other image need be asked for."""
        return self._unreachable

    @property
    def is_down(self) -> bool:
        """True once more than half of a full window failed as a host in trouble fails."""
        return (
            len(self._failing) == WINDOW_TRIES
            and sum(self._failing) > MAX_FAILING_SHARE * WINDOW_TRIES
        )

    @property
    def never_answered(self) -> bool:
        """True where no try was answered, and it cannot be for the items: nobody was there."""
        enough = self._unreachable or self._tries >= LEAST_TRIES
        return self._tries > 0 and not self._answered and enough
