"""A Wallhaven that answers like the real one: API v1 and image host on one loopback port.

It imports nothing of the rest of the package, so that product and simulator cannot agree on the
same mistake.
"""

from __future__ import annotations

from collector.simulator.catalogue import Catalogue
from collector.simulator.folder import EmptyFolderError
from collector.simulator.journal import Journal, Visit
from collector.simulator.options import Hooks, InvalidOptionError, SimulatorOptions
from collector.simulator.server import Simulator, open_simulator
from collector.simulator.wallpaper import Wallpaper

__all__ = [
    "Catalogue",
    "EmptyFolderError",
    "Hooks",
    "InvalidOptionError",
    "Journal",
    "Simulator",
    "SimulatorOptions",
    "Visit",
    "Wallpaper",
    "open_simulator",
]
