"""`/bard-settings`: let a server's managers change its settings, in a message with controls."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Unpack, cast

import discord
from discord import app_commands

from ..bard import Bard
from ..languages import ENGLISH, Language, Text
from ..storage.guild_settings import ButtonAccess, Changes, GuildSettings, Rules
from ..ui.access import guild_of, require_manager
from ..ui.commands import FOR_SERVERS, SERVERS, command
from ..ui.components import Button
from ..ui.forms import text_values
from ..ui.interactions import acknowledge_press, edit_response, handle, respond
from ..ui.localisation import language_of
from ..ui.responses import role_names
from ..ui.voices import AND_MORE
from .base import BardCog, listener
from .settings_form import (
    CHARS_ID,
    COOLDOWN_ID,
    FORM,
    NOTHING_CHANGED,
    TEMPERATURE_ID,
    LimitsModal,
    parse_limits,
)
from .settings_voices import VoicesView, voices_page

BUTTONS: dict[ButtonAccess, tuple[Text, Text]] = {
    "everyone": (
        Text("Continue is for everyone", "entry"),
        Text(
            "The button *Continue* is for everyone, the others for the person who asked for the "
            "reply, and moderators"
        ),
    ),
    "asker": (
        Text("Continue is for the person who asked for the reply, and moderators", "entry"),
        Text(
            "The button *Continue* is for the person who asked for the reply, and moderators; so "
            "are the others"
        ),
    ),
}
"""For each access to *Continue*, the entry of its list, and the line that says that it holds."""
MENTIONS = {
    "no": Text("Answer when mentioned: no, only commands and buttons", "entry"),
    "yes": Text("Answer when mentioned: yes, with a reply to the message", "entry"),
}
Page = tuple[str, discord.ui.View]
"""The text and the controls of a page of the settings."""
ROLES_PAGE = Text(
    "**Who may ask the bard in this server**\n{roles}\n"
    "The first list below has the roles that may ask, the second those that may not. Somebody with "
    "a role of both lists may not. Everybody may still read, and have their own words forgotten. "
    "People who manage the server can always change these settings. "
    "Direct messages have no roles.\nChanges take effect immediately."
)
HEADING = Text("**The bard's settings in this server**")
CHANNELS = Text("Channels: {channels}")
ALL_CHANNELS = Text("Channels: all")
CHANNELS_GONE = Text("Channels: none that still exists, so that I reply nowhere: choose others")
WITH_THREADS = Text("{channels} and their threads")
LONGEST_REPLY = Text("Longest reply: {chars:,} characters")
COOLDOWN = Text("Cooldown: {seconds} s between a person's requests")
TEMPERATURE = Text("Temperature of requests without one: {temperature:g}")
IMMEDIATELY = Text("Changes take effect immediately.")
MAY_ASK = Text("Roles that may ask: {roles}")
ALL_MAY_ASK = Text("Roles that may ask: all")
MAY_ASK_GONE = Text(
    "Roles that may ask: none that still exists, so that I reply to nobody: choose others"
)
MAY_NOT_ASK = Text("Roles that may not ask: {roles}")
ALL_BUT_NONE = Text("Roles that may not ask: none")
EVERYWHERE = Text("The bard may reply everywhere", "placeholder")
ALLOWED_HINT = Text("Roles that may ask: all", "placeholder")
DENIED_HINT = Text("Roles that may not ask: none", "placeholder")
LIMITS = Text("Length, cooldown, temperature", "button")
ROLES = Text("Roles", "button")
VOICES = Text("Voices", "button")
BACK = Text("Back", "button")
_LISTED = 15
"""Most channels or roles in a line: a page has 2000 characters, and its lists have all of them."""
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
            SettingsView(GuildSettings(), ENGLISH),
            RolesView(GuildSettings(), ENGLISH),
            VoicesView(_show_voices, ENGLISH),
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

    def __init__(self, settings: GuildSettings, language: Language) -> None:
        super().__init__(timeout=None)
        self.channels.placeholder = language(EVERYWHERE)
        self.limits.label = language(LIMITS)
        self.channels.default_values = [
            discord.SelectDefaultValue(id=channel_id, type=discord.SelectDefaultValueType.channel)
            for channel_id in sorted(settings.channels)
        ]
        self.buttons.options = [
            discord.SelectOption(
                label=language(entry), value=value, default=value == settings.buttons
            )
            for value, (entry, _line) in BUTTONS.items()
        ]
        self.mentions.options = [
            discord.SelectOption(
                label=language(answer),
                value=value,
                default=value == _mentions(answers=settings.answer_mentions),
            )
            for value, answer in MENTIONS.items()
        ]

    @discord.ui.select(
        cls=discord.ui.ChannelSelect,
        custom_id="bard:settings:channels",
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

    @discord.ui.button(custom_id="bard:settings:limits", row=3)
    async def limits(
        self, interaction: discord.Interaction[Any], _: discord.ui.Button["SettingsView"]
    ) -> None:
        """Open the form with the numbers."""
        await handle(interaction, lambda bard: _open_form(interaction, bard))


class RolesView(discord.ui.View):
    """The controls of the page with the roles. One instance handles those of all messages."""

    def __init__(self, settings: GuildSettings, language: Language) -> None:
        super().__init__(timeout=None)
        for select, roles, hint in (
            (self.allowed, settings.allowed_roles, ALLOWED_HINT),
            (self.denied, settings.denied_roles, DENIED_HINT),
        ):
            select.placeholder = language(hint)
            select.default_values = [
                discord.SelectDefaultValue(id=role_id, type=discord.SelectDefaultValueType.role)
                for role_id in sorted(roles)
            ]

    @discord.ui.select(
        cls=discord.ui.RoleSelect[Any],
        custom_id="bard:settings:allowed",
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
    form = LimitsModal(
        overrides, language_of(interaction), defaults=bard.guild_settings.rules(None)
    )
    await interaction.response.send_modal(form)
    form.stop()  # `on_interaction` handles it


async def _store_limits(
    interaction: discord.Interaction[Any], bard: Bard, values: Mapping[str, str]
) -> None:
    """Store the numbers of a form, or respond with those that are not allowed."""
    require_manager(interaction)
    language = language_of(interaction)
    try:
        changes = parse_limits(
            values.get(CHARS_ID, ""),
            values.get(COOLDOWN_ID, ""),
            values.get(TEMPERATURE_ID, ""),
            language,
            limit=bard.settings.max_chars,
        )
    except ValueError as error:
        await respond(interaction, f"{language(NOTHING_CHANGED)}\n{error}")
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
    found, language = _Existing(interaction), language_of(interaction)
    shown = replace(overrides, channels=found.channels(rules.channels, unknown=()))
    view = SettingsView(shown, language)
    # The view of the cog handles the controls, so the library need not keep this one.
    view.stop()
    view.add_item(SettingsPage(language(ROLES), "bard:settings:page:roles"))
    if bard.voice_store.listed():
        view.add_item(SettingsPage(language(VOICES), "bard:settings:page:voices"))
    return describe(rules, found, language), view


def _roles_page(interaction: discord.Interaction[Any], bard: Bard) -> Page:
    overrides, rules = _settings_of(interaction, bard)
    found, language = _Existing(interaction), language_of(interaction)
    view = RolesView(
        replace(
            overrides,
            allowed_roles=found.roles(rules.allowed_roles, unknown=()),
            denied_roles=found.roles(rules.denied_roles, unknown=()),
        ),
        language,
    )
    view.stop()
    view.add_item(SettingsPage(language(BACK), "bard:settings:page:main"))
    roles = "\n".join(_describe_roles(rules, found, language))
    return language(ROLES_PAGE, roles=roles), view


def _voices_page(interaction: discord.Interaction[Any], bard: Bard) -> Page:
    content, view = voices_page(interaction, bard, _show_voices)
    back = language_of(interaction)(BACK)
    view.add_item(SettingsPage(back, "bard:settings:page:main"))
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


def describe(rules: Rules, found: _Existing, language: Language) -> str:
    """Return the settings as text.

    Args:
        rules: The settings in force.
        found: Knows which of their channels and roles still exist.
        language: That of the text.
    """
    existing = found.channels(rules.channels)
    places = _listed([f"<#{channel_id}>" for channel_id in sorted(existing)], language)
    if rules.channels and not existing:
        channels = language(CHANNELS_GONE)
    elif places:
        channels = language(CHANNELS, channels=language(WITH_THREADS, channels=places))
    else:
        channels = language(ALL_CHANNELS)
    lines = [
        language(HEADING),
        channels,
        *_describe_roles(rules, found, language),
        language(LONGEST_REPLY, chars=rules.max_chars),
        language(COOLDOWN, seconds=rules.cooldown),
        language(TEMPERATURE, temperature=rules.temperature),
        language(BUTTONS[rules.buttons][1]),
        language(MENTIONS[_mentions(answers=rules.answer_mentions)]),
        language(IMMEDIATELY),
    ]
    return "\n".join(lines)


def _describe_roles(rules: Rules, found: _Existing, language: Language) -> tuple[str, str]:
    """Return a line with the roles that may use the bard, and one with those that may not."""
    may_ask = language(ALL_MAY_ASK)
    allowed, denied = (
        _listed(role_names(found.roles(roles)), language)
        for roles in (rules.allowed_roles, rules.denied_roles)
    )
    if allowed:
        may_ask = language(MAY_ASK, roles=allowed)
    elif rules.allowed_roles:
        may_ask = language(MAY_ASK_GONE)
    return may_ask, language(MAY_NOT_ASK, roles=denied) if denied else language(ALL_BUT_NONE)


def _listed(mentions: Sequence[str], language: Language) -> str:
    """Return mentions in a line, without those for which a page has no room."""
    shown, more = ", ".join(mentions[:_LISTED]), len(mentions[_LISTED:])
    return language(AND_MORE, places=shown, more=more) if more else shown


def _settings_of(interaction: discord.Interaction[Any], bard: Bard) -> tuple[GuildSettings, Rules]:
    store, guild_id = bard.guild_settings, guild_of(interaction)
    return store.get(guild_id), store.rules(guild_id)


def _ids(values: Iterable[discord.abc.Snowflake]) -> frozenset[int]:
    return frozenset(value.id for value in values)
