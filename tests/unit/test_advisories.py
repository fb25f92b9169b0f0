"""What is said of advisories: known ones by name, and never more than was asked."""

from __future__ import annotations

from typing import Any

import advisories
import pytest

WELL: dict[str, Any] = {"name": "alpha", "version": "1.0", "vulns": []}
ILL: dict[str, Any] = {
    "name": "beta",
    "version": "2.0",
    "vulns": [
        {"id": "PYSEC-2026-1", "fix_versions": ["2.1", "3.0"]},
        {"id": "PYSEC-2026-2", "fix_versions": []},
    ],
}
SKIPPED: dict[str, Any] = {"name": "gamma", "skip_reason": "not found"}


@pytest.mark.case("SEC-11")
def test_each_advisory_is_a_line_with_the_releases_that_mend_it() -> None:
    audit = advisories.read({"dependencies": [WELL, ILL]})
    assert audit.known == (
        "beta 2.0: PYSEC-2026-1, mended in 2.1, 3.0",
        "beta 2.0: PYSEC-2026-2, mended in no release",
    )
    assert str(audit) == "2 packages audited, 2 advisories"


@pytest.mark.case("SEC-11")
def test_where_no_index_answers_nothing_is_claimed() -> None:
    audit = advisories.judge("", "Traceback:\nrequests.exceptions.ConnectionError: no", 7)
    assert str(audit) == "NOT AUDITED: no index of advisories answers here (7 packages)"


@pytest.mark.case("SEC-11")
@pytest.mark.parametrize("complaint", ["No module named pip_audit", "invalid hash", ""])
def test_an_audit_that_fails_is_no_silent_index(complaint: str) -> None:
    with pytest.raises(SystemExit, match=f"pip-audit failed: {complaint}"):
        advisories.judge("", complaint, 7)


@pytest.mark.case("SEC-11")
@pytest.mark.parametrize("name", advisories.SHIPPED)
def test_packages_are_counted_and_not_their_markers(name: str) -> None:
    path = advisories.ROOT / f"requirements/{name}.txt"
    lines = path.read_text().splitlines()
    named = [line for line in lines if line and not line.startswith((" ", "#"))]
    assert advisories.packages_of(path) == len(named)


@pytest.mark.case("SEC-11")
def test_a_package_that_nobody_knows_is_not_called_sound() -> None:
    assert str(advisories.read({"dependencies": [WELL, SKIPPED]})).startswith(
        "1 packages audited, 1 NOT AUDITED"
    )
    assert str(advisories.read({"dependencies": [SKIPPED]})).startswith("NOT AUDITED")
