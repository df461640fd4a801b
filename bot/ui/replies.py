"""Send replies as messages, and handle the buttons below them."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import discord

from ..bard import Bard
from ..core.request_queue import Request
from ..core.scenes import MessageRef, Show
from ..errors import Reason, RejectedError
from ..storage.guild_settings import Rules
from ..storage.turns import Turn, TurnRequest
from .components import Button, bard_of, may_change, view_of
from .embeds import embeds, headline
from .queue_status import FollowupTarget, QueueStatus, ResponseTarget
from .responses import respond

SHORTENED = "Here my replies end at {limit:,} characters."


async def reply_to(
    interaction: discord.Interaction[Any],
    prompt: str | None,
    *,
    max_chars: int | None = None,
    temperature: float | None = None,
    seed: int | None = None,
    fresh: bool = False,
) -> None:
    """Play a turn in response to an interaction that is not acknowledged yet.

    Options of None take the defaults of the place.

    Raises:
        RejectedError: The request is not accepted, or there is no scene to continue.
    """
    bard = bard_of(interaction)
    rules = bard.guild_settings.rules(interaction.guild_id)
    limit = rules.reply_chars(max_chars)
    request = TurnRequest(
        guild_id=interaction.guild_id,
        channel_id=interaction.channel_id or 0,
        user_id=interaction.user.id,
        # JSON can carry a lone surrogate, which neither SQLite nor a message can.
        prompt=None if prompt is None else prompt.encode(errors="replace").decode(),
        max_chars=limit,
        temperature=rules.temperature if temperature is None else temperature,
        seed=seed,
        fresh=fresh,
    )
    with accept(interaction, bard, rules) as queued:
        await interaction.response.defer(thinking=True)
        target = ResponseTarget(interaction)
        async with QueueStatus(target, queued, bard.wait) as status:

            async def show(turn: Turn, dropped: str) -> int:
                await status.stop()
                author = headline(turn, interaction.user.display_name)
                pages = embeds(turn, author=author, dropped=dropped)
                return (await target.show_reply(pages, reply_view(turn))).id

            await bard.scenes.play(request, show, queued)
            if max_chars is not None and max_chars > limit:
                await respond(interaction, SHORTENED.format(limit=limit))


@contextmanager
def accept(interaction: discord.Interaction[Any], bard: Bard, rules: Rules) -> Iterator[Request]:
    """Hold a place in the queue for an interaction.

    Called before the acknowledgement, so that a rejection is visible to the sender alone.

    Raises:
        RejectedError: See `Admission.accept`.
    """
    parent_id = getattr(interaction.channel, "parent_id", None)
    with bard.admission.accept(
        interaction.id,
        user_id=interaction.user.id,
        guild_id=interaction.guild_id,
        channels={channel for channel in (interaction.channel_id, parent_id) if channel},
        rules=rules,
    ) as request:
        yield request


def reply_view(turn: Turn) -> discord.ui.View:
    """Return the buttons below a turn."""
    style = discord.ButtonStyle
    buttons: list[Button] = [
        Continue("Continue", f"bard:continue:{turn.id}", style.primary),
        Reroll("Reroll", f"bard:reroll:{turn.id}"),
    ]
    if turn.takes > 1:
        take = f"bard:take:{turn.id}:"
        first, last = turn.take == 1, turn.take == turn.takes
        buttons += [
            ShowTake("◀ Earlier take", f"{take}{turn.take - 1}", disabled=first),
            ShowTake("Later take ▶", f"{take}{turn.take + 1}", disabled=last),
        ]
    buttons.append(Delete("Delete", f"bard:delete:{turn.id}", style.danger))
    return view_of(*buttons)


class Continue(Button, template=r"bard:continue:(?P<turn>[0-9]+)"):
    """Continue the scene in a new message. For everyone, unless the server restricts it."""

    async def press(self, interaction: discord.Interaction[Any], bard: Bard) -> None:
        """Play another turn with the length and temperature of this one."""
        # Before the acknowledgement, which is public, so that a rejection is private.
        turn = await bard.scenes.find_in_scene(_message_ref(interaction, int(self["turn"])))
        rules = bard.guild_settings.rules(interaction.guild_id)
        if rules.buttons != "everyone" and not may_change(interaction, turn.user_id):
            raise RejectedError(Reason.BUTTONS_RESTRICTED)
        await reply_to(interaction, None, max_chars=turn.max_chars, temperature=turn.temperature)


class Reroll(Button, template=r"bard:reroll:(?P<turn>[0-9]+)"):
    """Generate another take of the turn. For its requester and moderators."""

    async def press(self, interaction: discord.Interaction[Any], bard: Bard) -> None:
        """Show a new take; the earlier ones are kept."""
        ref = await _changeable(interaction, bard, int(self["turn"]))
        rules = bard.guild_settings.rules(interaction.guild_id)
        with accept(interaction, bard, rules) as request:
            await interaction.response.defer()
            async with QueueStatus(FollowupTarget(interaction), request, bard.wait):
                await bard.scenes.reroll(ref, rules.max_chars, _show_in_place(interaction), request)


class ShowTake(Button, template=r"bard:take:(?P<turn>[0-9]+):(?P<take>[0-9]+)"):
    """Show another take, which becomes part of the scene. For its requester and moderators."""

    async def press(self, interaction: discord.Interaction[Any], bard: Bard) -> None:
        """Show the take."""
        ref = await _changeable(interaction, bard, int(self["turn"]))
        await interaction.response.defer()
        await bard.scenes.select_take(ref, int(self["take"]), _show_in_place(interaction))


class Delete(Button, template=r"bard:delete:(?P<turn>[0-9]+)"):
    """Delete the message and the turn. For its requester and moderators."""

    async def press(self, interaction: discord.Interaction[Any], bard: Bard) -> None:
        """Delete the message, then the stored turn."""
        ref = await _changeable(interaction, bard, int(self["turn"]))
        await interaction.response.defer()

        async def delete_message() -> None:
            with suppress(discord.NotFound):  # somebody else has deleted it
                # The message with the button: this works where the bot is no member, too.
                await interaction.delete_original_response()

        await bard.scenes.delete(ref, delete_message)


def _message_ref(interaction: discord.Interaction[Any], turn_id: int) -> MessageRef:
    assert interaction.message is not None  # noqa: S101 - buttons are on messages
    return MessageRef(turn_id, interaction.channel_id or 0, interaction.message.id)


async def _changeable(
    interaction: discord.Interaction[Any], bard: Bard, turn_id: int
) -> MessageRef:
    """Return the message of a turn that a press is about to change.

    Raises:
        RejectedError: The person may not change it, or it was deleted.
    """
    ref = _message_ref(interaction, turn_id)
    turn = await bard.scenes.find(ref)
    if not may_change(interaction, turn.user_id):
        raise RejectedError(Reason.NOT_REQUESTER)
    return ref


def _show_in_place(interaction: discord.Interaction[Any]) -> Show:
    """Return a function that shows a take in the pressed button's message.

    The line above the reply, which has the name of the requester, stays.
    """
    assert interaction.message is not None  # noqa: S101 - buttons are on messages
    above = [embed.author.name for embed in interaction.message.embeds if embed.author.name]

    async def show(turn: Turn, dropped: str) -> int:
        author = above[0] if above else headline(turn, "")
        message = await interaction.edit_original_response(
            embeds=embeds(turn, author=author, dropped=dropped),
            view=reply_view(turn),
            allowed_mentions=discord.AllowedMentions.none(),
        )
        return message.id

    return show
