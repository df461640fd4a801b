"""The Discord bot: `create_bot` builds it, `python -m bot` runs it."""

from .app import Bard, create_bot
from .errors import StartupError
from .settings import Settings, load_settings

__all__ = ["Bard", "Settings", "StartupError", "create_bot", "load_settings"]
