"""The form of `/bard-settings` with the settings that are numbers."""

import math

import discord

from ..config import MAX_COOLDOWN, MAX_TEMPERATURE, MIN_TEMPERATURE
from ..storage.guild_settings import Changes, GuildSettings, Rules

FORM = "bard:settings:form"
"""Custom id of the form with the numbers."""
NOTHING_CHANGED = "Nothing was changed, because some values are not allowed:"


class LimitsModal(discord.ui.Modal):
    """A form with the settings that are numbers."""

    def __init__(self, overrides: GuildSettings, *, defaults: Rules) -> None:
        super().__init__(title="Length, cooldown, temperature", custom_id=FORM)
        self._add("Longest reply", "Characters", overrides.max_chars, defaults.max_chars)
        self._add("Cooldown", "Seconds between requests", overrides.cooldown, defaults.cooldown)
        self._add(
            "Temperature", "For requests without one", overrides.temperature, defaults.temperature
        )

    def _add(self, name: str, unit: str, value: float | None, default: float) -> None:
        text: discord.ui.TextInput[LimitsModal] = discord.ui.TextInput(
            custom_id=name,
            default=None if value is None else f"{value:g}",
            required=False,
            max_length=10,
        )
        hint = f"{unit}. Empty: {default:g}, the bot's default."
        self.add_item(discord.ui.Label(text=name, description=hint, component=text))


def parse_limits(max_chars: str, cooldown: str, temperature: str, *, limit: int) -> Changes:
    """Parse the numbers of the form; an empty text selects the bot's default.

    Args:
        max_chars: A whole number from 1 to `limit`.
        cooldown: Whole seconds from 0.
        temperature: A number, with a point or a comma.
        limit: The longest reply that the bot itself allows.

    Raises:
        ValueError: The message has a line for each value that is not allowed.
    """
    problems: list[str] = []

    def parse(
        name: str, text: str, low: float, high: float, *, whole: bool = False
    ) -> float | None:
        if not text.strip():
            return None
        try:
            value = float(text.replace(",", "."))
        except ValueError:
            value = math.nan
        if not low <= value <= high or (whole and not value.is_integer()):
            kind = "a whole number" if whole else "a number"
            problems.append(f"{name}: {kind} from {low:g} to {high:g}, or nothing; not {text!r}.")
        return value

    chars = parse("Longest reply", max_chars, 1, limit, whole=True)
    seconds = parse("Cooldown", cooldown, 0, MAX_COOLDOWN, whole=True)
    default_temperature = parse("Temperature", temperature, MIN_TEMPERATURE, MAX_TEMPERATURE)
    if problems:
        raise ValueError("\n".join(problems))
    return Changes(
        max_chars=None if chars is None else int(chars),
        cooldown=None if seconds is None else int(seconds),
        temperature=default_temperature,
    )
