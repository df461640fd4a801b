"""`/bard-settings`: let a server's managers change its settings, in a message with controls."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any, Unpack, cast

import discord
from discord import app_commands

from ..bard import Bard
from ..storage.guild_settings import ButtonAccess, Changes, GuildSettings, Rules
from ..ui.access import guild_of, require_manager
from ..ui.commands import FOR_SERVERS, SERVERS, command
from ..ui.components import Button
from ..ui.forms import text_values
from ..ui.interactions import acknowledge_press, edit_response, handle, respond
from ..ui.responses import role_names
from .base import BardCog, listener
from .settings_form import FORM, NOTHING_CHANGED, LimitsModal, parse_limits
from .settings_voices import VoicesView, voices_page

BUTTONS: dict[ButtonAccess, str] = {
    "everyone": "everyone",
    "asker": "the person who asked for the reply, and moderators",
}
MENTIONS = {"no": "no, only commands and buttons", "yes": "yes, with a reply to the message"}
Page = tuple[str, discord.ui.View]
"""The text and the controls of a page of the settings."""
ROLES_PAGE = (
    "**Who may ask the bard in this server**\n{roles}\n"
    "The first list below has the roles that may ask, the second those that may not. Somebody with "
    "a role of both lists may not. Everybody may still read, and have their own words forgotten. "
    "People who manage the server can always change these settings. "
    "Direct messages have no roles.\nChanges take effect immediately."
)
CHANNEL_TYPES = [
    discord.ChannelType.text,
    discord.ChannelType.news,
    discord.ChannelType.forum,
    discord.ChannelType.voice,
    discord.ChannelType.stage_voice,
]


class SettingsCog(BardCog, name="noskgpt_bard.settings"):
    """The command `/bard-settings`."""

    def __init__(self, client: Any, bard: Bard) -> None:  # noqa: ANN401 - see BardCog
        super().__init__(client, bard)
        self.views = (
            SettingsView(GuildSettings()),
            RolesView(GuildSettings()),
            VoicesView(_show_voices),
        )

    async def cog_load(self) -> None:
        """Handle the controls of every settings message, also of those sent before a restart."""
        for view in self.views:
            self.client.add_view(view)

    async def cog_unload(self) -> None:
        """Stop handling the controls."""
        for view in self.views:
            view.stop()

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
            values = dict(text_values(data["components"]))
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
        require_manager(interaction)
        content, view = PAGES["main"](interaction, self.bard)
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
        self.mentions.options = [
            discord.SelectOption(
                label=f"Answer when mentioned: {answer}",
                value=value,
                default=value == _mentions(answers=settings.answer_mentions),
            )
            for value, answer in MENTIONS.items()
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
        channels = _ids(select.values)
        await handle(interaction, lambda bard: _change(interaction, bard, channels=channels))

    @discord.ui.select(cls=discord.ui.Select[Any], custom_id="bard:settings:buttons")
    async def buttons(
        self, interaction: discord.Interaction[Any], select: discord.ui.Select[Any]
    ) -> None:
        """Change the access to *Continue*."""
        buttons = cast("ButtonAccess", select.values[0])
        await handle(interaction, lambda bard: _change(interaction, bard, buttons=buttons))

    @discord.ui.select(cls=discord.ui.Select[Any], custom_id="bard:settings:mentions")
    async def mentions(
        self, interaction: discord.Interaction[Any], select: discord.ui.Select[Any]
    ) -> None:
        """Change whether the bard replies to messages that mention the bot."""
        answers = select.values[0] == "yes"
        await handle(interaction, lambda bard: _change(interaction, bard, answer_mentions=answers))

    @discord.ui.button(
        label="Length, cooldown, temperature", custom_id="bard:settings:limits", row=3
    )
    async def limits(
        self, interaction: discord.Interaction[Any], _: discord.ui.Button["SettingsView"]
    ) -> None:
        """Open the form with the numbers."""
        await handle(interaction, lambda bard: _open_form(interaction, bard))


class RolesView(discord.ui.View):
    """The controls of the page with the roles. One instance handles those of all messages."""

    def __init__(self, settings: GuildSettings) -> None:
        super().__init__(timeout=None)
        for select, roles in (
            (self.allowed, settings.allowed_roles),
            (self.denied, settings.denied_roles),
        ):
            select.default_values = [
                discord.SelectDefaultValue(id=role_id, type=discord.SelectDefaultValueType.role)
                for role_id in sorted(roles)
            ]

    @discord.ui.select(
        cls=discord.ui.RoleSelect[Any],
        custom_id="bard:settings:allowed",
        placeholder="Roles that may ask: all",
        min_values=0,
        max_values=25,
    )
    async def allowed(
        self, interaction: discord.Interaction[Any], select: discord.ui.RoleSelect[Any]
    ) -> None:
        """Change the roles that may use the bard."""
        await self._store(interaction, allowed_roles=_ids(select.values))

    @discord.ui.select(
        cls=discord.ui.RoleSelect[Any],
        custom_id="bard:settings:denied",
        placeholder="Roles that may not ask: none",
        min_values=0,
        max_values=25,
    )
    async def denied(
        self, interaction: discord.Interaction[Any], select: discord.ui.RoleSelect[Any]
    ) -> None:
        """Change the roles that may not."""
        await self._store(interaction, denied_roles=_ids(select.values))

    @staticmethod
    async def _store(interaction: discord.Interaction[Any], **changes: Unpack[Changes]) -> None:
        await handle(interaction, lambda bard: _change(interaction, bard, page="roles", **changes))


class SettingsPage(Button, template=r"bard:settings:page:(?P<page>main|roles|voices)"):
    """Show another page of the settings in the same message."""

    async def press(self, interaction: discord.Interaction[Any], bard: Bard) -> None:
        """Replace the page if the person manages the server."""
        require_manager(interaction)
        await acknowledge_press(interaction)
        await _show_page(interaction, bard, self["page"])


async def _open_form(interaction: discord.Interaction[Any], bard: Bard) -> None:
    require_manager(interaction)
    overrides, _rules = _settings_of(interaction, bard)
    form = LimitsModal(overrides, defaults=bard.guild_settings.rules(None))
    await interaction.response.send_modal(form)
    form.stop()  # `on_interaction` handles it


async def _store_limits(
    interaction: discord.Interaction[Any], bard: Bard, values: Mapping[str, str]
) -> None:
    """Store the numbers of a form, or respond with those that are not allowed."""
    require_manager(interaction)
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


async def _change(
    interaction: discord.Interaction[Any],
    bard: Bard,
    *,
    page: str = "main",
    **changes: Unpack[Changes],
) -> None:
    """Store changes and show a page of the settings that are in force now."""
    require_manager(interaction)
    await acknowledge_press(interaction)
    await bard.guild_settings.change(guild_of(interaction), **changes)
    await _show_page(interaction, bard, page)


async def _show_page(interaction: discord.Interaction[Any], bard: Bard, page: str) -> None:
    content, view = PAGES[page](interaction, bard)
    await edit_response(interaction, content=content, view=view)


async def _show_voices(interaction: discord.Interaction[Any], bard: Bard) -> None:
    await _show_page(interaction, bard, "voices")


def _main_page(interaction: discord.Interaction[Any], bard: Bard) -> Page:
    overrides, rules = _settings_of(interaction, bard)
    found = _Existing(interaction)
    view = SettingsView(replace(overrides, channels=found.channels(rules.channels, unknown=())))
    # The view of the cog handles the controls, so the library need not keep this one.
    view.stop()
    view.add_item(SettingsPage("Roles", "bard:settings:page:roles"))
    if bard.voice_store.listed():
        view.add_item(SettingsPage("Voices", "bard:settings:page:voices"))
    return describe(rules, found), view


def _roles_page(interaction: discord.Interaction[Any], bard: Bard) -> Page:
    overrides, rules = _settings_of(interaction, bard)
    found = _Existing(interaction)
    view = RolesView(
        replace(
            overrides,
            allowed_roles=found.roles(rules.allowed_roles, unknown=()),
            denied_roles=found.roles(rules.denied_roles, unknown=()),
        )
    )
    view.stop()
    view.add_item(SettingsPage("Back", "bard:settings:page:main"))
    return ROLES_PAGE.format(roles="\n".join(_describe_roles(rules, found))), view


def _voices_page(interaction: discord.Interaction[Any], bard: Bard) -> Page:
    content, view = voices_page(interaction, bard, _show_voices)
    view.add_item(SettingsPage("Back", "bard:settings:page:main"))
    return content, view


PAGES: Mapping[str, Callable[[discord.Interaction[Any], Bard], Page]] = {
    "main": _main_page,
    "roles": _roles_page,
    "voices": _voices_page,
}
"""The pages of the settings, by the name that the buttons have."""


class _Existing:
    """Know which channels and roles of settings still exist.

    That is not known where the host's intents hide servers.
    """

    def __init__(self, interaction: discord.Interaction[Any]) -> None:
        self._guild: discord.Guild | None = interaction.client.get_guild(guild_of(interaction))

    def channels(
        self, ids: frozenset[int], *, unknown: Iterable[int] | None = None
    ) -> frozenset[int]:
        """Return the channels that exist.

        Args:
            ids: The channels.
            unknown: Returned if it is not known; None selects all. Discord rejects default values
                that do not exist.
        """
        if self._guild is None:
            return ids if unknown is None else frozenset(unknown)
        return frozenset(filter(self._guild.get_channel, ids))

    def roles(self, ids: frozenset[int], *, unknown: Iterable[int] | None = None) -> frozenset[int]:
        """Return the roles that exist, as `channels` does."""
        if self._guild is None:
            return ids if unknown is None else frozenset(unknown)
        return frozenset(filter(self._guild.get_role, ids))


def _mentions(*, answers: bool) -> str:
    return "yes" if answers else "no"


def describe(rules: Rules, found: _Existing) -> str:
    """Return the settings as text.

    Args:
        rules: The settings in force.
        found: Knows which of their channels and roles still exist.
    """
    existing = found.channels(rules.channels)
    places = ", ".join(f"<#{channel_id}>" for channel_id in sorted(existing))
    if rules.channels and not existing:
        places = "none that still exists, so that I reply nowhere: choose others"
    elif places:
        places = f"{places} and their threads"
    lines = [
        "**The bard's settings in this server**",
        f"Channels: {places or 'all'}",
        *_describe_roles(rules, found),
        f"Longest reply: {rules.max_chars:,} characters",
        f"Cooldown: {rules.cooldown} s between a person's requests",
        f"Temperature of requests without one: {rules.temperature:g}",
        f"The button *Continue* is for {BUTTONS[rules.buttons]}, the others for {BUTTONS['asker']}",
        f"Answer when mentioned: {MENTIONS[_mentions(answers=rules.answer_mentions)]}",
        "Changes take effect immediately.",
    ]
    return "\n".join(lines)


def _describe_roles(rules: Rules, found: _Existing) -> tuple[str, str]:
    """Return a line with the roles that may use the bard, and one with those that may not."""
    allowed = role_names(found.roles(rules.allowed_roles))
    if rules.allowed_roles and not allowed:
        allowed = "none that still exists, so that I reply to nobody: choose others"
    denied = role_names(found.roles(rules.denied_roles))
    return f"Roles that may ask: {allowed or 'all'}", f"Roles that may not ask: {denied or 'none'}"


def _settings_of(interaction: discord.Interaction[Any], bard: Bard) -> tuple[GuildSettings, Rules]:
    store, guild_id = bard.guild_settings, guild_of(interaction)
    return store.get(guild_id), store.rules(guild_id)


def _ids(values: Iterable[discord.abc.Snowflake]) -> frozenset[int]:
    return frozenset(value.id for value in values)
