"""A reply of the bard as a message: how it is sent, and what the buttons under it do."""

from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

import discord

from bot import rendering
from bot.buttons import Button, moderates, view_of
from bot.errors import SceneError
from bot.history import Ask, Turn
from bot.scenes import Show, Spot, may_change

if TYPE_CHECKING:
    from bot.app import Bard

DEFAULT_CHARS = 1000
DEFAULT_TEMPERATURE = 0.8

NOT_YOURS = (
    "That is for whoever asked for this speech, and for the moderators here. "
    "You may press Continue, or ask me yourself with `/bard`."
)


def ask_of(
    interaction: discord.Interaction["Bard"],
    prompt: str | None,
    *,
    max_chars: int = DEFAULT_CHARS,
    temperature: float = DEFAULT_TEMPERATURE,
    seed: int | None = None,
    fresh: bool = False,
) -> Ask:
    """Return what somebody asks for by an interaction, where it took place."""
    return Ask(
        guild_id=interaction.guild_id,
        channel_id=interaction.channel_id or 0,
        user_id=interaction.user.id,
        # A lone surrogate, which JSON can carry, has no place in SQLite or in an answer.
        prompt=None if prompt is None else prompt.encode(errors="replace").decode(),
        max_chars=min(max_chars, interaction.client.settings.max_chars),
        temperature=temperature,
        seed=seed,
        fresh=fresh,
    )


async def perform(interaction: discord.Interaction["Bard"], ask: Ask) -> None:
    """Play a turn as the answer to an acknowledged interaction."""

    def author(turn: Turn) -> str:
        return rendering.headline(turn, interaction.user.display_name)

    await interaction.client.scenes.play(ask, _show(interaction, author))


def controls(turn: Turn) -> discord.ui.View:
    """Return the buttons under a turn."""
    style = discord.ButtonStyle
    buttons: list[Button] = [
        Continue("Continue", f"bard:continue:{turn.id}", style.primary),
        Reroll("Reroll", f"bard:reroll:{turn.id}"),
    ]
    if turn.takes > 1:
        take = f"bard:take:{turn.id}:"
        first, last = turn.take == 1, turn.take == turn.takes
        buttons += [
            Choose("◀ Earlier take", f"{take}{turn.take - 1}", disabled=first),
            Choose("Later take ▶", f"{take}{turn.take + 1}", disabled=last),
        ]
    buttons.append(Delete("Delete", f"bard:delete:{turn.id}", style.danger))
    return view_of(*buttons)


class Continue(Button, template=r"bard:continue:(?P<turn>[0-9]+)"):
    """Lets the scene go on, in a message of its own. For everyone."""

    async def press(self, interaction: discord.Interaction["Bard"]) -> None:
        """Play another turn, of the length and temperature of this one."""
        # Before the acknowledgement, which everyone sees: a refusal is for one person alone.
        turn = await interaction.client.scenes.find_in_scene(_spot(interaction, int(self["turn"])))
        await interaction.response.defer(thinking=True)
        ask = ask_of(interaction, None, max_chars=turn.max_chars, temperature=turn.temperature)
        await perform(interaction, ask)


class Reroll(Button, template=r"bard:reroll:(?P<turn>[0-9]+)"):
    """Plays the turn again, in place. For who asked and for moderators."""

    async def press(self, interaction: discord.Interaction["Bard"]) -> None:
        """Show a new take; the earlier ones are kept."""
        spot = await _take_over(interaction, int(self["turn"]))
        await interaction.client.scenes.reroll(spot, _show_take(interaction))


class Choose(Button, template=r"bard:take:(?P<turn>[0-9]+):(?P<take>[0-9]+)"):
    """Leafs to another take. For who asked and for moderators: the scene remembers it instead."""

    async def press(self, interaction: discord.Interaction["Bard"]) -> None:
        """Show the take."""
        spot = await _take_over(interaction, int(self["turn"]))
        await interaction.client.scenes.choose(spot, int(self["take"]), _show_take(interaction))


class Delete(Button, template=r"bard:delete:(?P<turn>[0-9]+)"):
    """Takes the turn out of the channel and of memory. For who asked and for moderators."""

    async def press(self, interaction: discord.Interaction["Bard"]) -> None:
        """Delete the message, then forget the words."""
        spot = await _take_over(interaction, int(self["turn"]))

        async def erase() -> None:
            with suppress(discord.NotFound):  # somebody was quicker
                # The message with the button: this reaches it where the bot is no member, too.
                await interaction.delete_original_response()

        await interaction.client.scenes.remove(spot, erase)


def _spot(interaction: discord.Interaction["Bard"], turn_id: int) -> Spot:
    assert interaction.message is not None  # noqa: S101 - buttons are on messages
    return Spot(turn_id, interaction.channel_id or 0, interaction.message.id)


async def _take_over(interaction: discord.Interaction["Bard"], turn_id: int) -> Spot:
    """Acknowledge a press that changes a turn, and return where.

    Raises:
        SceneError: The person may not change it, or it is no longer remembered.
    """
    spot = _spot(interaction, turn_id)
    turn = await interaction.client.scenes.find(spot)
    if not may_change(turn, interaction.user.id, moderator=moderates(interaction)):
        raise SceneError(NOT_YOURS)
    await interaction.response.defer()
    return spot


def _show_take(interaction: discord.Interaction["Bard"]) -> Show:
    """Return what shows another take where the button is; the line above it stays as it was."""
    assert interaction.message is not None  # noqa: S101 - buttons are on messages
    above = [embed.author.name for embed in interaction.message.embeds if embed.author.name]
    return _show(interaction, lambda turn: above[0] if above else rendering.headline(turn, ""))


def _show(interaction: discord.Interaction["Bard"], author: Callable[[Turn], str]) -> Show:
    async def show(turn: Turn, dropped: str) -> int:
        message = await interaction.edit_original_response(
            embeds=rendering.embeds(turn, author=author(turn), dropped=dropped),
            view=controls(turn),
            allowed_mentions=discord.AllowedMentions.none(),
        )
        return message.id

    return show
