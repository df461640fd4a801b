"""A reply of the bard as a message: how it is sent, and what the buttons under it do."""

from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

import discord

from ..core.admission import admitted
from ..core.scenes import Show, Spot
from ..errors import SceneError
from ..storage.turns import Ask, Turn
from . import embeds as rendering
from .components import Button, may_decide, view_of
from .queue_status import Progress
from .responses import answer

if TYPE_CHECKING:
    from ..client import Bard

NOT_YOURS = (
    "That is for whoever asked for this speech, and for the moderators here. "
    "You may press Continue, or ask me yourself with `/bard`."
)
NOT_FOR_ALL = (
    "In this server the buttons are for whoever asked for the speech, and for the moderators. "
    "Ask me yourself with `/bard`."
)


def ask_of(
    interaction: discord.Interaction["Bard"],
    prompt: str | None,
    *,
    max_chars: int | None = None,
    temperature: float | None = None,
    seed: int | None = None,
    fresh: bool = False,
) -> Ask:
    """Return what somebody asks for by an interaction, where it took place.

    What they leave open is as the server's managers have set it.
    """
    rules = interaction.client.guild_settings.rules(interaction.guild_id)
    return Ask(
        guild_id=interaction.guild_id,
        channel_id=interaction.channel_id or 0,
        user_id=interaction.user.id,
        # A lone surrogate, which JSON can carry, has no place in SQLite or in an answer.
        prompt=None if prompt is None else prompt.encode(errors="replace").decode(),
        max_chars=rules.usual_chars if max_chars is None else max_chars,
        temperature=rules.temperature if temperature is None else temperature,
        seed=seed,
        fresh=fresh,
    )


async def perform(interaction: discord.Interaction["Bard"], ask: Ask) -> None:
    """Play a turn as the answer to an interaction, which is not acknowledged yet.

    Raises:
        RefusedError, CommandOnCooldown: It is not taken on.
        SceneError: There is no scene to continue.
    """
    client = interaction.client
    rules = client.guild_settings.rules(interaction.guild_id)
    allowed = replace(ask, max_chars=min(ask.max_chars, rules.max_chars))
    with admitted(interaction, rules) as request:
        await interaction.response.defer(thinking=True)
        async with Progress(interaction, request, client.wait) as progress:

            async def show(turn: Turn, dropped: str) -> int:
                author = rendering.headline(turn, interaction.user.display_name)
                pages = rendering.embeds(turn, author=author, dropped=dropped)
                return (await progress.replace(pages, controls(turn))).id

            await client.scenes.play(allowed, show, request)
            if allowed != ask:
                await answer(interaction, f"Here my replies end at {rules.max_chars:,} characters.")


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
    """Lets the scene go on, in a message of its own. For everyone, unless a server restricts it."""

    async def press(self, interaction: discord.Interaction["Bard"]) -> None:
        """Play another turn, of the length and temperature of this one."""
        # Before the acknowledgement, which everyone sees: a refusal is for one person alone.
        turn = await interaction.client.scenes.find_in_scene(_spot(interaction, int(self["turn"])))
        rules = interaction.client.guild_settings.rules(interaction.guild_id)
        if rules.buttons != "everyone" and not may_decide(interaction, turn.user_id):
            raise SceneError(NOT_FOR_ALL)
        ask = ask_of(interaction, None, max_chars=turn.max_chars, temperature=turn.temperature)
        await perform(interaction, ask)


class Reroll(Button, template=r"bard:reroll:(?P<turn>[0-9]+)"):
    """Plays the turn again, in place. For who asked and for moderators."""

    async def press(self, interaction: discord.Interaction["Bard"]) -> None:
        """Show a new take; the earlier ones are kept."""
        client = interaction.client
        spot = await _check(interaction, int(self["turn"]))
        rules = client.guild_settings.rules(interaction.guild_id)
        with admitted(interaction, rules) as request:
            await interaction.response.defer()
            async with Progress(interaction, request, client.wait, beside=True):
                await client.scenes.reroll(spot, _show_take(interaction), request)


class Choose(Button, template=r"bard:take:(?P<turn>[0-9]+):(?P<take>[0-9]+)"):
    """Leafs to another take. For who asked and for moderators: the scene remembers it instead."""

    async def press(self, interaction: discord.Interaction["Bard"]) -> None:
        """Show the take."""
        spot = await _check(interaction, int(self["turn"]))
        await interaction.response.defer()
        await interaction.client.scenes.choose(spot, int(self["take"]), _show_take(interaction))


class Delete(Button, template=r"bard:delete:(?P<turn>[0-9]+)"):
    """Takes the turn out of the channel and of memory. For who asked and for moderators."""

    async def press(self, interaction: discord.Interaction["Bard"]) -> None:
        """Delete the message, then forget the words."""
        spot = await _check(interaction, int(self["turn"]))
        await interaction.response.defer()

        async def erase() -> None:
            with suppress(discord.NotFound):  # somebody was quicker
                # The message with the button: this reaches it where the bot is no member, too.
                await interaction.delete_original_response()

        await interaction.client.scenes.remove(spot, erase)


def _spot(interaction: discord.Interaction["Bard"], turn_id: int) -> Spot:
    assert interaction.message is not None  # noqa: S101 - buttons are on messages
    return Spot(turn_id, interaction.channel_id or 0, interaction.message.id)


async def _check(interaction: discord.Interaction["Bard"], turn_id: int) -> Spot:
    """Return where a turn is that a press is to change.

    Raises:
        SceneError: The person may not change it, or it is no longer remembered.
    """
    spot = _spot(interaction, turn_id)
    turn = await interaction.client.scenes.find(spot)
    if not may_decide(interaction, turn.user_id):
        raise SceneError(NOT_YOURS)
    return spot


def _show_take(interaction: discord.Interaction["Bard"]) -> Show:
    """Return what shows another take where the button is; the line above it stays as it was."""
    assert interaction.message is not None  # noqa: S101 - buttons are on messages
    above = [embed.author.name for embed in interaction.message.embeds if embed.author.name]

    async def show(turn: Turn, dropped: str) -> int:
        author = above[0] if above else rendering.headline(turn, "")
        message = await interaction.edit_original_response(
            embeds=rendering.embeds(turn, author=author, dropped=dropped),
            view=controls(turn),
            allowed_mentions=discord.AllowedMentions.none(),
        )
        return message.id

    return show
