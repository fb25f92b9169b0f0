"""Mirror a Wallhaven search into Postgres and S3, and prove that it was done.

`run`, `read_catalog` and `read_images` are the Python API. They are imported on first use, so that
`import collector` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collector.notebook import read_catalog, read_images, run

__version__ = "1.0.0"
__all__ = ["__version__", "read_catalog", "read_images", "run"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(import_module("collector.notebook"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
