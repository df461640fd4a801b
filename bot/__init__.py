"""The Discord bot: `create_bot` builds it, `python -m bot` runs it."""

from bot.app import Bard, create_bot
from bot.errors import StartupError
from bot.settings import Settings, load_settings

__all__ = ["Bard", "Settings", "StartupError", "create_bot", "load_settings"]
