"""The host's own extensions."""

EXTENSIONS = ("bot.cogs.settings", "bot.cogs.train")
