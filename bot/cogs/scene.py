"""`/scene`: continue, end, read, forget or export a scene; delete replies deleted by hand."""

import io
import logging
from collections.abc import Iterable
from contextlib import suppress
from typing import Any, Literal

import discord
from discord import app_commands

from ..bard import Bard
from ..core.scenes import Page
from ..errors import Reason, RejectedError
from ..ui.attachments import files_of
from ..ui.commands import EVERYWHERE, FOR_ALL, Group
from ..ui.components import Button, moderates, view_of
from ..ui.embeds import SOMEONE, scene_page
from ..ui.replies import reply_to
from .base import BardCog, listener

log = logging.getLogger(__name__)

FRESH = "The curtain falls. Whoever asks me next, with `/bard`, begins a new scene here."
FORGET_MINE = (
    "Shall I forget all that you ever asked of me, in every server and channel, and what I "
    "answered? It cannot be undone. The messages stay; delete those that you want gone."
)
FORGET_CHANNEL = (
    "Shall I forget every scene that was ever played in this channel, whoever asked? "
    "It cannot be undone. The messages stay; delete those that you want gone."
)
FORGOT_NOTHING = "I had nothing there to forget."
KEPT = "Nothing is forgotten."

ForgetChoice = Literal["my words, everywhere", "all of this channel"]
ExportChoice = Literal["the scene, as a script", "all about me, as JSON"]


class TurnPage(Button, template=r"bard:page:(?P<scene>[0-9]+):(?P<page>[0-9]+)"):
    """Show another page of a scene."""

    async def press(self, interaction: discord.Interaction[Any], bard: Bard) -> None:
        """Replace the page that is shown."""
        await interaction.response.defer()
        page = await bard.scenes.page(
            interaction.channel_id or 0, scene=int(self["scene"]), number=int(self["page"])
        )
        await _show_page(interaction, page)


class ConfirmForget(Button, template=r"bard:forget:(?P<what>mine|channel|nothing)"):
    """Confirm or decline a deletion, in a message that only the sender sees."""

    async def press(self, interaction: discord.Interaction[Any], bard: Bard) -> None:
        """Delete, and respond with the number of deleted turns."""
        what = self["what"]
        if what == "channel":
            _require_moderator(interaction)
        await interaction.response.defer()
        text = KEPT
        if what == "mine":
            await bard.runs.delete_user(interaction.user.id)
        if what != "nothing":
            count = await (
                bard.turns.delete_user(interaction.user.id)
                if what == "mine"
                else bard.scenes.delete_channel(interaction.channel_id or 0)
            )
            text = f"Forgotten, word for word: {count:,} speech{'' if count == 1 else 'es'}."
            text = text if count else FORGOT_NOTHING
        await interaction.edit_original_response(
            content=text, view=None, allowed_mentions=discord.AllowedMentions.none()
        )


class SceneCog(BardCog, name="noskgpt_bard.scene"):
    """The commands `/scene`."""

    scene = Group(
        name="scene",
        description="The scene played in this channel.",
        allowed_contexts=EVERYWHERE,
        allowed_installs=FOR_ALL,
    )

    async def cog_load(self) -> None:
        """Log which deletions on Discord the host's intents hide."""
        missing = [
            name
            for name in ("guild_messages", "dm_messages")
            if not getattr(self.client.intents, name)
        ]
        if missing:
            log.warning(
                "Intents missing: %s. Replies that members delete by hand stay in their scene",
                ", ".join(missing),
            )

    @scene.command(name="continue", description="Let the scene go on by itself.")
    async def continue_scene(self, interaction: discord.Interaction[Any]) -> None:
        """Play a turn without a prompt."""
        await reply_to(interaction, None)

    @scene.command(name="fresh", description="End the scene; the next request begins a new one.")
    async def fresh(self, interaction: discord.Interaction[Any]) -> None:
        """End the scene with a public response."""
        await interaction.response.defer()
        await self.bard.scenes.end(interaction.guild_id, interaction.channel_id or 0)
        await interaction.edit_original_response(
            content=FRESH, allowed_mentions=discord.AllowedMentions.none()
        )

    @scene.command(name="show", description="Read the scene, and see who asked for each part.")
    async def show(self, interaction: discord.Interaction[Any]) -> None:
        """Show the last page of the scene to the sender alone."""
        await interaction.response.defer(ephemeral=True)
        await _show_page(interaction, await self.bard.scenes.page(interaction.channel_id or 0))

    @scene.command(name="forget", description="Delete what I remember of you or of this channel.")
    @app_commands.describe(what="Your own words, or all of this channel if you moderate it")
    async def forget(self, interaction: discord.Interaction[Any], what: ForgetChoice) -> None:
        """Ask for a confirmation."""
        style = discord.ButtonStyle
        if what == "my words, everywhere":
            text = FORGET_MINE
            confirm = ConfirmForget("Forget my words", "bard:forget:mine", style.danger)
        else:
            _require_moderator(interaction)
            text = FORGET_CHANNEL
            confirm = ConfirmForget("Forget this channel", "bard:forget:channel", style.danger)
        await interaction.response.send_message(
            text,
            view=view_of(confirm, ConfirmForget("Keep everything", "bard:forget:nothing")),
            ephemeral=True,
            allowed_mentions=discord.AllowedMentions.none(),
        )

    @scene.command(name="export", description="Export this scene or your data, for you alone.")
    @app_commands.describe(what="The scene played here, or all that I remember of you")
    async def export(self, interaction: discord.Interaction[Any], what: ExportChoice) -> None:
        """Send the current scene as a text, or all turns of the sender as JSON."""
        await interaction.response.defer(ephemeral=True)
        if what == "the scene, as a script":
            await _send_files(interaction, "scene.txt", await self._script(interaction))
            return
        turns = [turn async for turn in self.bard.turns.export(interaction.user.id)]
        if not turns:
            raise RejectedError(Reason.NOTHING_STORED)
        files = files_of(turns, opening="[\n", between=",\n", closing="\n]\n")
        await _send_files(interaction, "about-me.json", files)

    async def _script(self, interaction: discord.Interaction[Any]) -> list[bytes]:
        text, requesters = await self.bard.scenes.script(interaction.channel_id or 0)
        names = await _names(interaction, requesters)
        place = getattr(interaction.channel, "name", None)
        title = f"A scene in #{place}" if place else "A scene"
        title += f", asked for by {', '.join(names.values())}"
        return files_of(f"{title}\n\n\n{text.strip()}\n".splitlines(keepends=True))

    @listener
    async def on_raw_message_delete(self, payload: discord.RawMessageDeleteEvent) -> None:
        """Delete the turn of a deleted reply."""
        await self.bard.scenes.delete_messages(payload.channel_id, {payload.message_id})

    @listener
    async def on_raw_bulk_message_delete(self, payload: discord.RawBulkMessageDeleteEvent) -> None:
        """Delete the turns of deleted replies."""
        await self.bard.scenes.delete_messages(payload.channel_id, payload.message_ids)


def _require_moderator(interaction: discord.Interaction[Any]) -> None:
    if not moderates(interaction):
        raise RejectedError(Reason.NOT_MODERATOR)


async def _show_page(interaction: discord.Interaction[Any], page: Page) -> None:
    """Edit the response of an acknowledged interaction to show a page of a scene."""
    names = await _names(interaction, (turn.user_id for turn in page.turns))
    prefix = f"bard:page:{page.scene}:"
    last = page.number == page.count
    buttons = (
        TurnPage("◀ Previous page", f"{prefix}{page.number - 1}", disabled=page.number == 1),
        TurnPage("Next page ▶", f"{prefix}{page.number + 1}", disabled=last),
    )
    await interaction.edit_original_response(
        embeds=scene_page(page, names),
        view=view_of(*buttons) if page.count > 1 else None,
        allowed_mentions=discord.AllowedMentions.none(),
    )


async def _names(interaction: discord.Interaction[Any], ids: Iterable[int]) -> dict[int, str]:
    """Return display names by user id: the server's for its members, else the user's own."""
    names = {}
    for user_id in dict.fromkeys(ids):
        names[user_id] = await _name(interaction, user_id)
    return names


async def _name(interaction: discord.Interaction[Any], user_id: int) -> str:
    if user_id == interaction.user.id:
        return interaction.user.display_name
    # Each request may fail: the person has left, the bot is no member, the account is deleted.
    with suppress(discord.HTTPException):
        if interaction.guild is not None:
            return (await interaction.guild.fetch_member(user_id)).display_name
    with suppress(discord.HTTPException):
        user: discord.User = await interaction.client.fetch_user(user_id)
        return user.display_name
    return SOMEONE


async def _send_files(interaction: discord.Interaction[Any], name: str, files: list[bytes]) -> None:
    """Send each file in an ephemeral follow-up of its own."""
    stem, _, suffix = name.partition(".")
    for number, data in enumerate(files, start=1):
        part = f"{stem}-{number}.{suffix}" if len(files) > 1 else name
        await interaction.followup.send(
            file=discord.File(io.BytesIO(data), part),
            ephemeral=True,
            allowed_mentions=discord.AllowedMentions.none(),
        )
