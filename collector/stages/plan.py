"""Plan: estimate the cost of a backfill, with few API calls and without changing anything."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from collector.catalog import Runs
from collector.core.errors import Unreadable
from collector.core.planning import Estimate, Holdings, Plan, plan_backfill, sampled_pages
from collector.core.runs import Json
from collector.core.wallpapers import Page
from collector.logs import logger
from collector.sources import ApiRequest, Source
from collector.stages.api_client import ApiClient

# A kilobyte, and a third of a second: finer figures would pretend to be exact.
_GIGABYTE_DIGITS = 6
_HOUR_DIGITS = 4


@dataclass(frozen=True, slots=True)
class PlanReport:
    """A plan, its search, the API calls that it took, and what is stored already."""

    search_key: str
    plan: Plan
    holdings: Holdings
    api_calls_used: int

    def as_json(self) -> dict[str, Json]:
        """Return one flat object, ranges as `..._least` and `..._most`."""
        plan = self.plan
        return {
            "search": self.search_key,
            "images": plan.images,
            "pages": plan.pages,
            "api_calls": plan.api_calls,
            "requests_per_minute": plan.requests_per_minute,
            "hours": round(plan.hours, _HOUR_DIGITS),
            **_figures("gigabytes", plan.gigabytes, _GIGABYTE_DIGITS),
            **_figures("puts", plan.puts, None),
            "sampled_images": plan.sampled_images,
            "api_calls_used": self.api_calls_used,
            **asdict(self.holdings),
        }


def _figures(name: str, estimate: Estimate | None, digits: int | None) -> dict[str, Json]:
    figures = asdict(estimate) if estimate else dict.fromkeys(("likely", "least", "most"))
    return {
        name if of == "likely" else f"{name}_{of}": None if value is None else round(value, digits)
        for of, value in figures.items()
    }


async def plan(
    *, source: Source, api: ApiClient, catalog: Runs, requests_per_minute: int
) -> PlanReport:
    """Estimate what a backfill of `source` would cost, from three of its pages at most.

    Writes nothing. Only the first page is needed: another one that cannot be read, or is
    now beyond the end of the list, is left out. Raises Outage.
    """
    holdings = await catalog.holdings()
    first = await _read(source, api, 1)
    others = [await _sampled(source, api, number) for number in sampled_pages(first.last_page)[1:]]
    # A list that moves may show an image on two pages.
    sizes = {
        item.wallhaven_id: item.file_size
        for page in (first, *others)
        if page is not None
        for item in page.wallpapers
        if item.file_size is not None
    }
    cost = plan_backfill(
        images=first.total,
        pages=first.last_page,
        sizes_bytes=list(sizes.values()),
        requests_per_minute=requests_per_minute,
    )
    return PlanReport(source.search_key, cost, holdings, api.requests_sent)


async def _sampled(source: Source, api: ApiClient, number: int) -> Page | None:
    try:
        return await _read(source, api, number, witness=source.page_request(1))
    except Unreadable as problem:
        logger.warning("page %d is left out of the plan: %s", number, problem.problem)
        return None


async def _read(
    source: Source, api: ApiClient, number: int, witness: ApiRequest | None = None
) -> Page:
    request = source.page_request(number)
    return await api.get(request, lambda body: source.parse_page(body, number), witness)
