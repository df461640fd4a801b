"""`/scene`: what can be done with a channel's scene, and replies deleted by hand."""

import io
from collections.abc import Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, Literal

import discord
from discord import app_commands
from discord.ext import commands

from ..core.scenes import Page
from ..errors import SceneError
from ..ui import embeds as rendering
from ..ui.attachments import files_of
from ..ui.components import Button, moderates, view_of
from ..ui.replies import ask_of, perform

if TYPE_CHECKING:
    from ..client import Bard

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
MODERATORS_ONLY = (
    "To forget a whole channel is for its moderators, who may manage messages in it. "
    "You may have your own words forgotten: choose them in `/scene forget`."
)
NOTHING_ABOUT_YOU = "I remember nothing of you."

Forgotten = Literal["my words, everywhere", "all of this channel"]
Exported = Literal["the scene, as a script", "all about me, as JSON"]


class Leaf(Button, template=r"bard:page:(?P<scene>[0-9]+):(?P<page>[0-9]+)"):
    """Turns to another page of a scene."""

    async def press(self, interaction: discord.Interaction["Bard"]) -> None:
        """Show the page in place of the one that is open."""
        await interaction.response.defer()
        page = await interaction.client.scenes.page(
            interaction.channel_id or 0, scene=int(self["scene"]), number=int(self["page"])
        )
        await _open(interaction, page)


class Forget(Button, template=r"bard:forget:(?P<what>mine|channel|nothing)"):
    """Answers whether to forget. Only who was asked sees it."""

    async def press(self, interaction: discord.Interaction["Bard"]) -> None:
        """Forget, and say how much that was."""
        bot, what = interaction.client, self["what"]
        if what == "channel":
            _require_moderator(interaction)
        await interaction.response.defer()
        text = KEPT
        if what == "mine":
            await bot.runs.forget_user(interaction.user.id)
        if what != "nothing":
            count = await (
                bot.history.forget_user(interaction.user.id)
                if what == "mine"
                else bot.scenes.forget(interaction.channel_id or 0)
            )
            text = f"Forgotten, word for word: {count:,} speech{'' if count == 1 else 'es'}."
            text = text if count else FORGOT_NOTHING
        await interaction.edit_original_response(
            content=text, view=None, allowed_mentions=discord.AllowedMentions.none()
        )


class SceneCog(commands.Cog):
    """The commands of a scene."""

    scene = app_commands.Group(name="scene", description="The scene played in this channel.")

    def __init__(self, bot: "Bard") -> None:
        self.bot = bot

    async def cog_load(self) -> None:
        """Listen to the buttons of the commands."""
        self.bot.add_dynamic_items(Leaf, Forget)

    @scene.command(name="continue", description="Let the scene go on by itself.")
    async def go_on(self, interaction: discord.Interaction["Bard"]) -> None:
        """Play a turn without a prompt."""
        await perform(interaction, ask_of(interaction, None))

    @scene.command(name="fresh", description="End the scene; the next request begins a new one.")
    async def fresh(self, interaction: discord.Interaction["Bard"]) -> None:
        """End the scene, for everyone to see."""
        await interaction.response.defer()
        await self.bot.scenes.end(interaction.guild_id, interaction.channel_id or 0)
        await interaction.edit_original_response(
            content=FRESH, allowed_mentions=discord.AllowedMentions.none()
        )

    @scene.command(name="show", description="Read the scene, and who asked for what.")
    async def show(self, interaction: discord.Interaction["Bard"]) -> None:
        """Open the scene at its end, for this reader alone."""
        await interaction.response.defer(ephemeral=True)
        await _open(interaction, await self.bot.scenes.page(interaction.channel_id or 0))

    @scene.command(name="forget", description="Have me forget what was played.")
    @app_commands.describe(what="Your own words, or all of this channel if you moderate it")
    async def forget(self, interaction: discord.Interaction["Bard"], what: Forgotten) -> None:
        """Ask whether it is meant."""
        style = discord.ButtonStyle
        if what == "my words, everywhere":
            text, button = FORGET_MINE, Forget("Forget my words", "bard:forget:mine", style.danger)
        else:
            _require_moderator(interaction)
            text = FORGET_CHANNEL
            button = Forget("Forget this channel", "bard:forget:channel", style.danger)
        await interaction.response.send_message(
            text,
            view=view_of(button, Forget("Keep everything", "bard:forget:nothing")),
            ephemeral=True,
            allowed_mentions=discord.AllowedMentions.none(),
        )

    @scene.command(name="export", description="Take words away, in a file for you alone.")
    @app_commands.describe(what="The scene played here, or all that I remember of you")
    async def export(self, interaction: discord.Interaction["Bard"], what: Exported) -> None:
        """Send a text of the current scene, or all that is stored of this person."""
        await interaction.response.defer(ephemeral=True)
        if what == "the scene, as a script":
            await _send(interaction, "scene.txt", await self._script(interaction))
            return
        turns = [turn async for turn in self.bot.history.export(interaction.user.id)]
        if not turns:
            raise SceneError(NOTHING_ABOUT_YOU)
        files = files_of(turns, opening="[\n", between=",\n", closing="\n]\n")
        await _send(interaction, "about-me.json", files)

    async def _script(self, interaction: discord.Interaction["Bard"]) -> list[bytes]:
        text, askers = await self.bot.scenes.script(interaction.channel_id or 0)
        names = await _names(interaction, askers)
        place = getattr(interaction.channel, "name", None)
        title = f"A scene in #{place}" if place else "A scene"
        title += f", asked for by {', '.join(names.values())}"
        return files_of(f"{title}\n\n\n{text.strip()}\n".splitlines(keepends=True))

    @commands.Cog.listener()
    async def on_raw_message_delete(self, payload: discord.RawMessageDeleteEvent) -> None:
        """Take a deleted reply out of its scene."""
        await self.bot.scenes.strike(payload.channel_id, {payload.message_id})

    @commands.Cog.listener()
    async def on_raw_bulk_message_delete(self, payload: discord.RawBulkMessageDeleteEvent) -> None:
        """Take deleted replies out of their scene."""
        await self.bot.scenes.strike(payload.channel_id, payload.message_ids)


def _require_moderator(interaction: discord.Interaction["Bard"]) -> None:
    if not moderates(interaction):
        raise SceneError(MODERATORS_ONLY)


async def _open(interaction: discord.Interaction["Bard"], page: Page) -> None:
    """Show a page of a scene in the message that an acknowledged interaction is about."""
    names = await _names(interaction, (turn.user_id for turn in page.turns))
    leaf = f"bard:page:{page.scene}:"
    last = page.number == page.count
    buttons = (
        Leaf("◀ Previous page", f"{leaf}{page.number - 1}", disabled=page.number == 1),
        Leaf("Next page ▶", f"{leaf}{page.number + 1}", disabled=last),
    )
    await interaction.edit_original_response(
        embeds=rendering.transcript(page, names),
        view=view_of(*buttons) if page.count > 1 else None,
        allowed_mentions=discord.AllowedMentions.none(),
    )


async def _names(interaction: discord.Interaction["Bard"], ids: Iterable[int]) -> dict[int, str]:
    """Return the names of people: the server's where they are in it, else their own."""
    names = {}
    for user_id in dict.fromkeys(ids):
        names[user_id] = await _name(interaction, user_id)
    return names


async def _name(interaction: discord.Interaction["Bard"], user_id: int) -> str:
    if user_id == interaction.user.id:
        return interaction.user.display_name
    # Either may be refused: the person has left, the bot is no member, the account is gone.
    with suppress(discord.HTTPException):
        if interaction.guild is not None:
            return (await interaction.guild.fetch_member(user_id)).display_name
    with suppress(discord.HTTPException):
        return (await interaction.client.fetch_user(user_id)).display_name
    return rendering.SOMEONE


async def _send(interaction: discord.Interaction["Bard"], name: str, files: list[bytes]) -> None:
    """Send files, each in a message of its own, to the person of a deferred interaction alone."""
    stem, _, suffix = name.partition(".")
    for number, data in enumerate(files, start=1):
        part = f"{stem}-{number}.{suffix}" if len(files) > 1 else name
        await interaction.followup.send(
            file=discord.File(io.BytesIO(data), part),
            ephemeral=True,
            allowed_mentions=discord.AllowedMentions.none(),
        )
