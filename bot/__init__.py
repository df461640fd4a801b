"""The Discord bot: `create_bot` builds it, `python -m bot` runs it."""

from .client import Bard, create_bot
from .config import Settings, load_settings
from .errors import StartupError

__all__ = ["Bard", "Settings", "StartupError", "create_bot", "load_settings"]
