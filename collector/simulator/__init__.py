"""A simulated Wallhaven: API v1 and image host on one loopback port.

It imports nothing else of the package: a simulator that shared the parser would share its mistakes.
"""

from __future__ import annotations

from collector.simulator.catalogue import Catalogue, Inventory
from collector.simulator.journal import Journal, Visit
from collector.simulator.listings import known_names
from collector.simulator.options import Hooks, InvalidOptionError, SimulatorOptions
from collector.simulator.population import Wallpaper
from collector.simulator.profile import (
    Account,
    Defaults,
    Drift,
    Limit,
    Listing,
    Outage,
    Profile,
    ProfileError,
    read_profile,
    ready_profiles,
)
from collector.simulator.server import Simulator, open_simulator
from collector.simulator.stock import EmptyFolderError

__all__ = [
    "Account",
    "Catalogue",
    "Defaults",
    "Drift",
    "EmptyFolderError",
    "Hooks",
    "InvalidOptionError",
    "Inventory",
    "Journal",
    "Limit",
    "Listing",
    "Outage",
    "Profile",
    "ProfileError",
    "Simulator",
    "SimulatorOptions",
    "Visit",
    "Wallpaper",
    "known_names",
    "open_simulator",
    "read_profile",
    "ready_profiles",
]
