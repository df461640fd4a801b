"""`/settings`: what a server's managers decide, in one private message with controls."""

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Unpack, cast

import discord
from discord import app_commands
from discord.ext import commands

from ..storage.guild_settings import Buttons, Changes, GuildSettings, Rules, parse_limits
from ..ui.responses import answer, explain

if TYPE_CHECKING:
    from ..client import Bard

BUTTONS: dict[Buttons, str] = {
    "everyone": "everyone",
    "asker": "who asked for the reply, and moderators",
}
SPOKEN_IN = [
    discord.ChannelType.text,
    discord.ChannelType.news,
    discord.ChannelType.forum,
    discord.ChannelType.media,
    discord.ChannelType.voice,
    discord.ChannelType.stage_voice,
]
MODAL_SECONDS = 900.0
NOTHING_CHANGED = "Nothing was changed, for not all of it can be:"


class SettingsCog(commands.Cog):
    """The command `/settings`."""

    def __init__(self, bot: "Bard") -> None:
        self.bot = bot

    async def cog_load(self) -> None:
        """Answer the controls of every settings message, also of those sent before a restart."""
        self.bot.add_view(SettingsView(GuildSettings()))

    @app_commands.command(name="settings", description="How the bard behaves in this server.")
    @app_commands.allowed_contexts(guilds=True, dms=False, private_channels=False)
    @app_commands.allowed_installs(guilds=True, users=False)
    @app_commands.default_permissions(manage_guild=True)
    @app_commands.checks.has_permissions(manage_guild=True)
    async def settings(self, interaction: discord.Interaction["Bard"]) -> None:
        """Show the settings of the server to the person alone."""
        content, view = _message(interaction)
        await interaction.response.send_message(
            content, view=view, ephemeral=True, allowed_mentions=discord.AllowedMentions.none()
        )


class SettingsView(discord.ui.View):
    """The controls, set to the settings given. One instance answers for all messages."""

    def __init__(self, settings: GuildSettings) -> None:
        super().__init__(timeout=None)
        self.channels.default_values = [
            discord.SelectDefaultValue(id=channel_id, type=discord.SelectDefaultValueType.channel)
            for channel_id in sorted(settings.channels)
        ]
        self.buttons.options = [
            discord.SelectOption(
                label=f"Continue is for {who}", value=value, default=value == settings.buttons
            )
            for value, who in BUTTONS.items()
        ]

    async def interaction_check(self, interaction: discord.Interaction[Any], /) -> bool:
        """Take no change from who may not manage the server, or no longer."""
        _check_manager(interaction)
        return True

    async def on_error(
        self,
        interaction: discord.Interaction[Any],
        error: Exception,
        _item: discord.ui.Item[Any],
        /,
    ) -> None:
        """Tell the person what went wrong."""
        await explain(interaction, error)

    @discord.ui.select(
        cls=discord.ui.ChannelSelect,
        custom_id="bard:settings:channels",
        placeholder="Where I may speak: everywhere",
        channel_types=SPOKEN_IN,
        min_values=0,
        max_values=25,
    )
    async def channels(
        self,
        interaction: discord.Interaction["Bard"],
        select: discord.ui.ChannelSelect["SettingsView"],
    ) -> None:
        """Choose where the bard may speak."""
        await _change(interaction, channels=frozenset(channel.id for channel in select.values))

    @discord.ui.select(cls=discord.ui.Select[Any], custom_id="bard:settings:buttons")
    async def buttons(
        self, interaction: discord.Interaction["Bard"], select: discord.ui.Select[Any]
    ) -> None:
        """Choose who may use the buttons under replies."""
        await _change(interaction, buttons=cast("Buttons", select.values[0]))

    @discord.ui.button(
        label="Length, cooldown, temperature", custom_id="bard:settings:limits", row=2
    )
    async def limits(
        self, interaction: discord.Interaction["Bard"], _: discord.ui.Button["SettingsView"]
    ) -> None:
        """Ask for the numbers."""
        await interaction.response.send_modal(LimitsModal(interaction))


class LimitsModal(discord.ui.Modal):
    """Asks for the numbers among the settings."""

    def __init__(self, interaction: discord.Interaction["Bard"]) -> None:
        super().__init__(title="Length, cooldown, temperature", timeout=MODAL_SECONDS)
        own, _ = _settings_of(interaction)
        usual = interaction.client.guild_settings.rules(None)
        self._inputs = [
            self._ask("Longest reply", "Characters", own.max_chars, usual.max_chars),
            self._ask("Cooldown", "Seconds between requests", own.cooldown, usual.cooldown),
            self._ask("Temperature", "When none is given", own.temperature, usual.temperature),
        ]

    def _ask(
        self, name: str, what: str, value: float | None, usual: float
    ) -> discord.ui.TextInput["LimitsModal"]:
        text: discord.ui.TextInput[LimitsModal] = discord.ui.TextInput(
            custom_id=name,
            default=None if value is None else f"{value:g}",
            required=False,
            max_length=10,
        )
        hint = f"{what}. Empty: {usual:g}, the bot's own."
        self.add_item(discord.ui.Label(text=name, description=hint, component=text))
        return text

    async def on_submit(self, interaction: discord.Interaction["Bard"], /) -> None:  # type: ignore[override]
        """Store the numbers, or say which are not allowed."""
        _check_manager(interaction)
        try:
            changes = parse_limits(
                *(text.value for text in self._inputs), limit=interaction.client.settings.max_chars
            )
        except ValueError as error:
            await answer(interaction, f"{NOTHING_CHANGED}\n{error}")
            return
        await _change(interaction, **changes)

    async def on_error(  # type: ignore[override]
        self, interaction: discord.Interaction[Any], error: Exception, /
    ) -> None:
        """Tell the person what went wrong."""
        await explain(interaction, error)


def _check_manager(interaction: discord.Interaction[Any]) -> None:
    if not interaction.permissions.manage_guild:
        raise app_commands.MissingPermissions(["manage_guild"])


async def _change(interaction: discord.Interaction["Bard"], **changes: Unpack[Changes]) -> None:
    """Store changes and show the settings as they are now."""
    await interaction.client.guild_settings.change(_guild_id(interaction), **changes)
    content, view = _message(interaction)
    await interaction.response.edit_message(
        content=content, view=view, allowed_mentions=discord.AllowedMentions.none()
    )


def _message(interaction: discord.Interaction["Bard"]) -> tuple[str, SettingsView]:
    own, rules = _settings_of(interaction)
    guild = interaction.guild
    known = frozenset(c for c in own.channels if guild is not None and guild.get_channel(c))
    view = SettingsView(replace(own, channels=known))
    # The view that was added at the start answers for it; the library need not keep this one.
    view.stop()
    return describe(rules), view


def describe(rules: Rules) -> str:
    """Return the settings as text."""
    places = ", ".join(f"<#{channel_id}>" for channel_id in sorted(rules.channels))
    lines = [
        "**How I behave in this server**",
        f"I may speak: {f'in {places} and their threads' if places else 'everywhere'}",
        f"Longest reply: {rules.max_chars:,} characters",
        f"Cooldown: {rules.cooldown} s before a person may ask again",
        f"Temperature, when none is given: {rules.temperature:g}",
        f"The button *Continue* is for {BUTTONS[rules.buttons]}, the others for {BUTTONS['asker']}",
        "A change is in force at once.",
    ]
    return "\n".join(lines)


def _settings_of(interaction: discord.Interaction["Bard"]) -> tuple[GuildSettings, Rules]:
    store, guild_id = interaction.client.guild_settings, _guild_id(interaction)
    return store.get(guild_id), store.rules(guild_id)


def _guild_id(interaction: discord.Interaction[Any]) -> int:
    if interaction.guild_id is None:
        raise app_commands.NoPrivateMessage
    return interaction.guild_id
