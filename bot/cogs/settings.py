"""`/bard-settings`: let a server's managers change its settings, in a message with controls."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Unpack, cast

import discord
from discord import app_commands

from ..bard import Bard
from ..config import MAX_COOLDOWN, MAX_TEMPERATURE, MIN_TEMPERATURE
from ..errors import Reason, RejectedError
from ..storage.guild_settings import ButtonAccess, Changes, GuildSettings, Rules
from ..ui.commands import FOR_SERVERS, SERVERS, command
from ..ui.interactions import acknowledge_press, edit_response, handle, respond
from .base import BardCog, listener

BUTTONS: dict[ButtonAccess, str] = {
    "everyone": "everyone",
    "asker": "the person who asked for the reply, and moderators",
}
CHANNEL_TYPES = [
    discord.ChannelType.text,
    discord.ChannelType.news,
    discord.ChannelType.forum,
    discord.ChannelType.voice,
    discord.ChannelType.stage_voice,
]
FORM = "bard:settings:form"
"""Custom id of the form with the numbers."""
NOTHING_CHANGED = "Nothing was changed, because some values are not allowed:"


class SettingsCog(BardCog, name="noskgpt_bard.settings"):
    """The command `/bard-settings`."""

    def __init__(self, client: Any, bard: Bard) -> None:  # noqa: ANN401 - see BardCog
        super().__init__(client, bard)
        self.view = SettingsView(GuildSettings())

    async def cog_load(self) -> None:
        """Handle the controls of every settings message, also of those sent before a restart."""
        self.client.add_view(self.view)

    async def cog_unload(self) -> None:
        """Stop handling the controls."""
        self.view.stop()

    @listener
    async def on_interaction(self, interaction: discord.Interaction[Any]) -> None:
        """Store the numbers of a form, also of one that was opened before a restart.

        The library keeps open forms in memory, and only for some time.
        """
        data = cast("Mapping[str, Any]", interaction.data or {})
        if (
            interaction.type is discord.InteractionType.modal_submit
            and data.get("custom_id") == FORM
        ):
            values = dict(_text_values(data["components"]))
            await handle(interaction, lambda bard: _store_limits(interaction, bard, values))

    @command(
        name="bard-settings",
        description="Show and change the bard's settings in this server.",
        contexts=SERVERS,
        installs=FOR_SERVERS,
    )
    @app_commands.default_permissions(manage_guild=True)
    async def settings(self, interaction: discord.Interaction[Any]) -> None:
        """Show the settings to the sender alone."""
        _require_manager(interaction)
        content, view = _message(interaction, self.bard)
        await respond(interaction, content, view=view)


class SettingsView(discord.ui.View):
    """The controls, set to the given settings. One instance handles those of all messages."""

    def __init__(self, settings: GuildSettings) -> None:
        super().__init__(timeout=None)
        self.channels.default_values = [
            discord.SelectDefaultValue(id=channel_id, type=discord.SelectDefaultValueType.channel)
            for channel_id in sorted(settings.channels)
        ]
        self.buttons.options = [
            discord.SelectOption(
                label=f"Continue is for {people}", value=value, default=value == settings.buttons
            )
            for value, people in BUTTONS.items()
        ]

    @discord.ui.select(
        cls=discord.ui.ChannelSelect,
        custom_id="bard:settings:channels",
        placeholder="The bard may reply everywhere",
        channel_types=CHANNEL_TYPES,
        min_values=0,
        max_values=25,
    )
    async def channels(
        self,
        interaction: discord.Interaction[Any],
        select: discord.ui.ChannelSelect["SettingsView"],
    ) -> None:
        """Change the channels in which the bard may reply."""
        channels = frozenset(channel.id for channel in select.values)
        await handle(interaction, lambda bard: _change(interaction, bard, channels=channels))

    @discord.ui.select(cls=discord.ui.Select[Any], custom_id="bard:settings:buttons")
    async def buttons(
        self, interaction: discord.Interaction[Any], select: discord.ui.Select[Any]
    ) -> None:
        """Change the access to *Continue*."""
        buttons = cast("ButtonAccess", select.values[0])
        await handle(interaction, lambda bard: _change(interaction, bard, buttons=buttons))

    @discord.ui.button(
        label="Length, cooldown, temperature", custom_id="bard:settings:limits", row=2
    )
    async def limits(
        self, interaction: discord.Interaction[Any], _: discord.ui.Button["SettingsView"]
    ) -> None:
        """Open the form with the numbers."""
        await handle(interaction, lambda bard: _open_form(interaction, bard))


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


async def _open_form(interaction: discord.Interaction[Any], bard: Bard) -> None:
    _require_manager(interaction)
    overrides, _rules = _settings_of(interaction, bard)
    form = LimitsModal(overrides, defaults=bard.guild_settings.rules(None))
    await interaction.response.send_modal(form)
    form.stop()  # `on_interaction` handles it


async def _store_limits(
    interaction: discord.Interaction[Any], bard: Bard, values: Mapping[str, str]
) -> None:
    """Store the numbers of a form, or respond with those that are not allowed."""
    _require_manager(interaction)
    try:
        changes = parse_limits(
            values.get("Longest reply", ""),
            values.get("Cooldown", ""),
            values.get("Temperature", ""),
            limit=bard.settings.max_chars,
        )
    except ValueError as error:
        await respond(interaction, f"{NOTHING_CHANGED}\n{error}")
        return
    await _change(interaction, bard, **changes)


def _text_values(components: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, str]]:
    """Yield the custom id and the text of every input of a form."""
    for component in components:
        if "value" in component:
            yield component["custom_id"], component["value"]
        inner = component.get("components") or [component.get("component")]
        yield from _text_values([item for item in inner if item])


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


def _require_manager(interaction: discord.Interaction[Any]) -> None:
    if not interaction.permissions.manage_guild:
        raise RejectedError(Reason.NOT_MANAGER)


async def _change(
    interaction: discord.Interaction[Any], bard: Bard, **changes: Unpack[Changes]
) -> None:
    """Store changes and show the settings that are in force now."""
    _require_manager(interaction)
    await acknowledge_press(interaction)
    await bard.guild_settings.change(_guild_id(interaction), **changes)
    content, view = _message(interaction, bard)
    await edit_response(interaction, content=content, view=view)


def _message(interaction: discord.Interaction[Any], bard: Bard) -> tuple[str, SettingsView]:
    overrides, rules = _settings_of(interaction, bard)
    existing = _existing(interaction, rules.channels)
    view = SettingsView(replace(overrides, channels=existing or frozenset()))
    # The view of the cog handles the controls, so the library need not keep this one.
    view.stop()
    return describe(rules, rules.channels if existing is None else existing), view


def _existing(
    interaction: discord.Interaction[Any], channels: Iterable[int]
) -> frozenset[int] | None:
    """Return the channels that still exist: Discord rejects others as default values.

    None if that is not known, because the host's intents hide the channels of servers.
    """
    guild = interaction.client.get_guild(_guild_id(interaction))
    return None if guild is None else frozenset(c for c in channels if guild.get_channel(c))


def describe(rules: Rules, existing: frozenset[int]) -> str:
    """Return the settings as text.

    Args:
        rules: The settings in force.
        existing: The channels among those in which the bard may reply that still exist.
    """
    places = ", ".join(f"<#{channel_id}>" for channel_id in sorted(existing))
    if rules.channels and not existing:
        places = "none that still exists, so that I reply nowhere: choose others"
    elif places:
        places = f"{places} and their threads"
    lines = [
        "**The bard's settings in this server**",
        f"Channels: {places or 'all'}",
        f"Longest reply: {rules.max_chars:,} characters",
        f"Cooldown: {rules.cooldown} s between a person's requests",
        f"Temperature of requests without one: {rules.temperature:g}",
        f"The button *Continue* is for {BUTTONS[rules.buttons]}, the others for {BUTTONS['asker']}",
        "Changes take effect immediately.",
    ]
    return "\n".join(lines)


def _settings_of(interaction: discord.Interaction[Any], bard: Bard) -> tuple[GuildSettings, Rules]:
    store, guild_id = bard.guild_settings, _guild_id(interaction)
    return store.get(guild_id), store.rules(guild_id)


def _guild_id(interaction: discord.Interaction[Any]) -> int:
    assert interaction.guild_id is not None  # noqa: S101 - managers exist in servers alone
    return interaction.guild_id
