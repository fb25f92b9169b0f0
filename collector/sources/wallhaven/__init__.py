"""Wallhaven API v1: describes requests, parses and checks answers. Pure: never awaits.

Facts: https://wallhaven.cc/help/api (read 2026-11-23) and observed answers: `per_page` is a
number or a string, `ratio` a string, `created_at` has no zone (taken as UTC), wrong filters get 200
and unfiltered data, and a query string that begins with `q=like` is refused.
"""

from __future__ import annotations

from collector.sources.wallhaven.details import WallhavenDetails, parse_details
from collector.sources.wallhaven.filter_check import check_answer
from collector.sources.wallhaven.pages import parse_page
from collector.sources.wallhaven.query import Query, QueryError
from collector.sources.wallhaven.requests import USER_AGENT, CollectionName, WallhavenApi
from collector.sources.wallhaven.searches import WallhavenCollection, WallhavenSearch

__all__ = [
    "USER_AGENT",
    "CollectionName",
    "Query",
    "QueryError",
    "WallhavenApi",
    "WallhavenCollection",
    "WallhavenDetails",
    "WallhavenSearch",
    "check_answer",
    "parse_details",
    "parse_page",
]
