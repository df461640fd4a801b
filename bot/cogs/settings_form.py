"""The form of `/bard-settings` with the settings that are numbers."""

import math

import discord

from ..config import MAX_COOLDOWN, MAX_TEMPERATURE, MIN_TEMPERATURE
from ..languages import Language, Text
from ..storage.guild_settings import Changes, GuildSettings, Rules

FORM = "bard:settings:form"
"""Custom id of the form with the numbers."""
CHARS_ID, COOLDOWN_ID, TEMPERATURE_ID = "Longest reply", "Cooldown", "Temperature"
"""Custom ids of its fields, in every language."""
TITLE = Text("Length, cooldown, temperature", "title")
CHARS = Text("Longest reply", "label")
CHARS_HINT = Text("Characters. Empty: {default:g}, the bot's default.", "hint")
COOLDOWN = Text("Cooldown", "label")
COOLDOWN_HINT = Text("Seconds between requests. Empty: {default:g}, the bot's default.", "hint")
TEMPERATURE = Text("Temperature", "label")
TEMPERATURE_HINT = Text("For requests without one. Empty: {default:g}, the bot's default.", "hint")
NOTHING_CHANGED = Text("Nothing was changed, because some values are not allowed:")
NOT_WHOLE = Text("{name}: a whole number from {low:g} to {high:g}, or nothing; not {text}.")
NOT_A_NUMBER = Text("{name}: a number from {low:g} to {high:g}, or nothing; not {text}.")


class LimitsModal(discord.ui.Modal):
    """A form with the settings that are numbers."""

    def __init__(self, overrides: GuildSettings, language: Language, *, defaults: Rules) -> None:
        super().__init__(title=language(TITLE), custom_id=FORM)
        chars, cooldown, temperature = (
            language(CHARS_HINT, default=defaults.max_chars),
            language(COOLDOWN_HINT, default=defaults.cooldown),
            language(TEMPERATURE_HINT, default=defaults.temperature),
        )
        self._add(CHARS_ID, language(CHARS), chars, overrides.max_chars)
        self._add(COOLDOWN_ID, language(COOLDOWN), cooldown, overrides.cooldown)
        self._add(TEMPERATURE_ID, language(TEMPERATURE), temperature, overrides.temperature)

    def _add(self, custom_id: str, name: str, hint: str, value: float | None) -> None:
        text: discord.ui.TextInput[LimitsModal] = discord.ui.TextInput(
            custom_id=custom_id,
            default=None if value is None else f"{value:g}",
            required=False,
            max_length=10,
        )
        self.add_item(discord.ui.Label(text=name, description=hint, component=text))


def parse_limits(
    max_chars: str, cooldown: str, temperature: str, language: Language, *, limit: int
) -> Changes:
    """Parse the numbers of the form; an empty text selects the bot's default.

    Args:
        max_chars: A whole number from 1 to `limit`.
        cooldown: Whole seconds from 0.
        temperature: A number, with a point or a comma.
        language: That of the message of an error.
        limit: The longest reply that the bot itself allows.

    Raises:
        ValueError: The message has a line for each value that is not allowed.
    """
    problems: list[str] = []

    def parse(
        name: Text, text: str, low: float, high: float, *, whole: bool = False
    ) -> float | None:
        if not text.strip():
            return None
        try:
            value = float(text.replace(",", "."))
        except ValueError:
            value = math.nan
        if not low <= value <= high or (whole and not value.is_integer()):
            problem = NOT_WHOLE if whole else NOT_A_NUMBER
            shown = language(name)
            problems.append(language(problem, name=shown, low=low, high=high, text=repr(text)))
        return value

    chars = parse(CHARS, max_chars, 1, limit, whole=True)
    seconds = parse(COOLDOWN, cooldown, 0, MAX_COOLDOWN, whole=True)
    default_temperature = parse(TEMPERATURE, temperature, MIN_TEMPERATURE, MAX_TEMPERATURE)
    if problems:
        raise ValueError("\n".join(problems))
    return Changes(
        max_chars=None if chars is None else int(chars),
        cooldown=None if seconds is None else int(seconds),
        temperature=default_temperature,
    )
