"""Settings: environment variables, or an explicit `--env-file`."""

from collector.settings.loading import load_settings
from collector.settings.values import Settings

__all__ = ["Settings", "load_settings"]
