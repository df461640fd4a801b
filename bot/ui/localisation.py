"""Choose the language of each answer, and translate the commands."""

from typing import Any

import discord
from discord import app_commands

from ..bard import Bard
from ..languages import ENGLISH, Language, language

OWN = "noskgpt_bard"
"""Key among the extras of the names of the bard's choices, which do not say whose they are."""
_PACKAGE = __name__.partition(".")[0]
_KINDS = {
    app_commands.TranslationContextLocation.command_name: "command",
    app_commands.TranslationContextLocation.group_name: "command",
    app_commands.TranslationContextLocation.command_description: "description",
    app_commands.TranslationContextLocation.group_description: "description",
    app_commands.TranslationContextLocation.parameter_name: "option",
    app_commands.TranslationContextLocation.parameter_description: "description",
    app_commands.TranslationContextLocation.choice_name: "choice",
}


def language_of(interaction: discord.Interaction[Any], *, private: bool = True) -> Language:
    """Return the language of an answer: the sender's if it is private, else the server's.

    Outside servers, it is always the sender's.
    """
    if private or interaction.guild_locale is None:
        return language(interaction.locale.value)
    return language(interaction.guild_locale.value)


def language_of_message(interaction: discord.Interaction[Any]) -> Language:
    """Return the language of the message whose control was used, once it is edited."""
    message = interaction.message
    return language_of(interaction, private=message is not None and message.flags.ephemeral)


def language_in(guild: discord.Guild | None) -> Language:
    """Return the language of a message in a server that answers no interaction."""
    return ENGLISH if guild is None else language(guild.preferred_locale.value)


def language_to(
    person: discord.abc.Snowflake, bard: Bard, guild: discord.Guild | None = None
) -> Language:
    """Return the language of a direct message that answers no interaction.

    Args:
        person: Who gets it.
        bard: Knows the locales of people.
        guild: A server whose language is used if the person's is not known.
    """
    locale = bard.locales.of(person.id)
    return language_in(guild) if locale is None else language(locale)


def language_of_answer(asked: discord.Message, bard: Bard) -> Language:
    """Return the language of the answer to a message."""
    if asked.guild is None:
        return language_to(asked.author, bard)
    return language_in(asked.guild)


def kind_of(context: app_commands.TranslationContextTypes) -> str | None:
    """Return the kind of a text of a command; see `bot.languages.LIMITS`."""
    if isinstance(context.data, app_commands.ContextMenu):
        return "menu"
    return _KINDS.get(context.location)


class CommandTranslator(app_commands.Translator):
    """Translate the names and descriptions of the bard's commands; leave all others alone."""

    async def translate(
        self,
        string: app_commands.locale_str,
        locale: discord.Locale,
        context: app_commands.TranslationContextTypes,
    ) -> str | None:
        """Return the translation; None if there is none, or if the text is another's."""
        kind = kind_of(context)
        if kind is None or not _is_own(string, context.data):
            return None
        return language(locale.value).find(string.message, kind)


def _is_own(string: app_commands.locale_str, owner: object) -> bool:
    """Return whether a text belongs to the bard's commands."""
    if isinstance(owner, app_commands.Choice):
        return OWN in string.extras
    command = owner.command if isinstance(owner, app_commands.Parameter) else owner
    return str(getattr(command, "module", "")).partition(".")[0] == _PACKAGE
