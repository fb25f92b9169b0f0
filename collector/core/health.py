"""Tell an edge that is down, or refuses everything, from items that are bad."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping

from collector.core.errors import Code, Edge, Fault

# What each edge may say of any item: in trouble, after a block, or under a wrong setting. Of single
# items a healthy edge says most of these, too; only their share tells the two apart.
SUSPECT_CODES: Mapping[Edge, frozenset[Code]] = {
    Edge.DOWNLOAD: frozenset(
        {
            *(Code.SOURCE_ERROR, Code.HTML_RESPONSE, Code.REDIRECT_REFUSED, Code.HOST_REFUSED),
            *(Code.FORBIDDEN, Code.NOT_FOUND, Code.GONE),
            *(Code.EMPTY, Code.TRUNCATED, Code.MAGIC_MISMATCH, Code.TYPE_MISMATCH),
            *(Code.SIZE_MISMATCH, Code.LENGTH_MISMATCH, Code.DIMENSION_MISMATCH),
        }
    ),
    Edge.UPLOAD: frozenset({Code.STORE_ERROR}),
}
# Twenty attempts are enough to tell a bad hour from a bad item; more than half of them bad is
# nothing that retries of single items would mend.
WINDOW_ATTEMPTS = 20
MAX_FAILING_SHARE = 0.5
# With no success at all, this many attempts say that it is the edge: a run may have few items.
MIN_ATTEMPTS = 5


class EdgeHealth:
    """The last attempts at one edge: does it work?"""

    def __init__(self, edge: Edge) -> None:
        self._suspect_codes = SUSPECT_CODES[edge]
        # The code of each failure that may be the edge's; None for all else.
        self._last: deque[Code | None] = deque(maxlen=WINDOW_ATTEMPTS)
        self._attempts = 0
        self._has_worked = False
        self._unreachable = False

    def worked(self) -> None:
        """Note an attempt that the edge did not make fail."""
        self._attempts += 1
        self._last.append(None)
        self._has_worked = True
        self._unreachable = False

    def failed(self, code: Code, fault: Fault) -> None:
        """Note a failed attempt; `fault` systemic says that no connection was made."""
        if code not in self._suspect_codes:
            self.worked()
            return
        self._attempts += 1
        self._last.append(code)
        self._unreachable = fault is Fault.SYSTEMIC

    def clear(self) -> None:
        """The edge has just proved to work: what failed so far says nothing against it."""
        self._last.clear()
        self._has_worked = True

    @property
    def failing_codes(self) -> Counter[Code]:
        """How often each code is among the last attempts."""
        return Counter(code for code in self._last if code is not None)

    @property
    def ends_failing(self) -> bool:
        """True if the last attempt failed in a way that may be the edge's."""
        return bool(self._last) and self._last[-1] is not None

    @property
    def is_unreachable(self) -> bool:
        """True if the last attempt could not connect: no other item need be asked for."""
        return self._unreachable

    @property
    def is_down(self) -> bool:
        """True once more than half of a full window failed."""
        failing = self.failing_codes.total()
        return len(self._last) == WINDOW_ATTEMPTS and failing > MAX_FAILING_SHARE * WINDOW_ATTEMPTS

    @property
    def never_worked(self) -> bool:
        """True if every attempt failed, and they were enough to blame the edge for it."""
        enough = self._unreachable or self._attempts >= MIN_ATTEMPTS
        return self._attempts > 0 and not self._has_worked and enough

    @property
    def refuses_hosts(self) -> bool:
        """True if most of the last attempts were at hosts that the settings do not list."""
        refused = self.failing_codes[Code.HOST_REFUSED]
        return refused >= MIN_ATTEMPTS and refused > MAX_FAILING_SHARE * len(self._last)
