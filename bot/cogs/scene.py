"""`/scene`: continue, end, read, move, forget or export a scene."""

import io
import logging
from collections.abc import AsyncIterator
from typing import Any, Literal

import discord
from discord import app_commands

from ..bard import Bard
from ..core.parts import NAME_LIMIT as PART_NAME_LIMIT
from ..errors import Reason, RejectedError
from ..languages import Plural, Text
from ..storage.records import Page, Place
from ..ui.access import require_channel, require_person
from ..ui.attachments import FILE_LIMIT, Attachments
from ..ui.commands import EVERYWHERE, FOR_ALL, Group
from ..ui.components import Button, moderates, view_of
from ..ui.embeds import scene_page
from ..ui.hosts import shares_servers
from ..ui.interactions import (
    acknowledge,
    acknowledge_press,
    edit_response,
    place_of,
    repeat,
    respond,
)
from ..ui.localisation import language_of
from ..ui.names import names_of
from ..ui.replies import reply_to
from ..ui.threads import NAME_LIMIT, open_thread
from . import party
from .base import BardCog

log = logging.getLogger(__name__)

FRESH = Text("The curtain falls. Whoever asks me next, with `/bard`, begins a new scene here.")
FORGET_MINE = Text(
    "Shall I forget all that you ever asked of me, in every server and channel, and what I "
    "answered? It cannot be undone. The messages stay; delete those that you want gone."
)
FORGET_CHANNEL = Text(
    "Shall I forget every scene that was ever played in this channel, whoever asked? "
    "It cannot be undone. The messages stay; delete those that you want gone."
)
ELSEWHERE = Text(
    "I work in several places at once, and each has a memory of its own. This was the memory of "
    "the servers here; {then}"
)
FORGOT_HERE = Text("ask again in other servers, and in a direct message.")
FORGET_ELSEWHERE = Text("the others forget within a minute, or when they are back.")
FORGET_NOT_ELSEWHERE = Text("I could not reach the others. Ask once more in some minutes.")
EXPORTED_HERE = Text("ask in other servers, too, and in a direct message.")
FORGOT = Plural(
    "Forgotten, word for word: {count:,} speech.", "Forgotten, word for word: {count:,} speeches."
)
FORGOT_NOTHING = Text("I had nothing there to forget.")
FORGOT_MARKS = Text(
    "Forgotten: that you trained me, chose my weights, or play a part. There were no speeches of "
    "yours."
)
FORGOT_PARTS = Text(
    "Forgotten: who plays a part here, or which scene goes on here. There were no speeches of this "
    "channel."
)
FORGOT_DAILY = Text("Your daily scenes are removed.")
FORGET_LATER = Text(
    "I cannot write in my book at this moment. But it is noted there that I must forget all that, "
    "and I shall, within minutes after I can write again. You need not ask once more."
)
KEPT = Text("Nothing is forgotten.")
FORGET_MY_WORDS = Text("Forget my words", "button")
FORGET_THIS_CHANNEL = Text("Forget this channel", "button")
KEEP_EVERYTHING = Text("Keep everything", "button")
PREVIOUS_PAGE = Text("◀ Previous page", "button")
NEXT_PAGE = Text("Next page ▶", "button")
OTHERS = Plural("{count:,} other", "{count:,} others")
SCRIPT = Text("A scene, asked for by {names}")
SCRIPT_OF = Text("A scene in #{channel}, asked for by {names}")
_NAMED = 10
"""Number of requesters that an exported scene names."""

ForgetChoice = Literal["my words, everywhere", "all of this channel"]
ExportChoice = Literal["the scene, as a script", "all about me, as JSON"]


class TurnPage(
    Button,
    template=r"bard:page:(?P<own>own:|)(?P<scene>[0-9]+):(?P<side>before|after):(?P<turn>[0-9]+)",
):
    """Show the page of a scene, everyone's or one's own, before or after a turn."""

    async def press(self, interaction: discord.Interaction[Any], bard: Bard) -> None:
        """Replace the page that is shown."""
        await acknowledge_press(interaction)
        place = place_of(interaction, private=bool(self["own"]))
        turn = {self["side"]: int(self["turn"])}
        await _show_page(
            interaction, place, await bard.scenes.page(place, scene=int(self["scene"]), **turn)
        )


class ConfirmForget(Button, template=r"bard:forget:(?P<what>mine|channel|nothing)"):
    """Confirm or decline a deletion, in a message that only the sender sees."""

    async def press(self, interaction: discord.Interaction[Any], bard: Bard) -> None:
        """Delete, and respond with the number of deleted turns."""
        if self["what"] == "channel":
            _require_channel_moderator(interaction)
        await acknowledge_press(interaction)
        assert interaction.message is not None  # noqa: S101 - buttons are on messages
        question = interaction.message.id
        if not bard.deliveries.is_first(question):
            return  # another press has the number of the deleted turns
        try:
            text = await self._carry_out(interaction, bard)
        except BaseException:
            bard.deliveries.expect_again(question)
            raise
        await repeat(lambda: edit_response(interaction, content=text), bard.wait)

    async def _carry_out(self, interaction: discord.Interaction[Any], bard: Bard) -> str:
        """Delete what was confirmed; return the text of the response."""
        language = language_of(interaction)
        more: list[str] = []
        match self["what"]:
            case "nothing":
                return language(KEPT)
            case "channel":
                channel_id, others = place_of(interaction).channel_id, FORGOT_PARTS
                deletion, speeches = await bard.scenes.delete_channel(channel_id)
            case _:
                user_id, deletions, others = interaction.user.id, bard.turns.deletions, FORGOT_MARKS
                bard.queue.stop_user(user_id)
                deletion = await deletions.record("user", user_id)
                if deletion.schedules:
                    more.append(language(FORGOT_DAILY))
                if (then := await _forget_elsewhere(interaction, bard)) is not None:
                    more.append(language(ELSEWHERE, then=language(then)))
                speeches = await deletions.carry_out(deletion)
        if speeches is None:
            text = language(FORGET_LATER)
        elif speeches:
            text = language.plural(FORGOT, speeches)
        elif deletion.marks:
            text = language(others)
        elif deletion.schedules:
            return " ".join(more)
        else:
            text = language(FORGOT_NOTHING)
        return " ".join([text, *more])


async def _forget_elsewhere(interaction: discord.Interaction[Any], bard: Bard) -> Text | None:
    """Let other processes delete the sender's words; return what the response says about it."""
    shared = bard.shared_deletions
    if shared is not None:
        try:
            await shared.request(interaction.user.id)
        except (OSError, RejectedError) as error:
            log.warning("Other processes cannot be asked for a deletion: %s", error)
            return FORGET_NOT_ELSEWHERE
    if not shares_servers(interaction.client):
        return None
    return FORGOT_HERE if shared is None else FORGET_ELSEWHERE


class SceneCog(BardCog, name="noskgpt_bard.scene"):
    """The commands `/scene`."""

    scene = Group(
        name="scene",
        description="The scene played in this channel.",
        allowed_contexts=EVERYWHERE,
        allowed_installs=FOR_ALL,
    )

    @scene.command(name="continue", description="Let the scene go on by itself.")
    async def continue_scene(self, interaction: discord.Interaction[Any]) -> None:
        """Play a turn without a prompt."""
        await reply_to(interaction, self.bard, None)

    @scene.command(name="fresh", description="End the scene; the next request begins a new one.")
    async def fresh(self, interaction: discord.Interaction[Any]) -> None:
        """End the scene with a response that those see who see the scene."""
        require_person(interaction, self.bard)
        require_channel(interaction, self.bard)
        acknowledgement = await acknowledge(interaction)
        private = acknowledgement.private
        await self.bard.scenes.end(place_of(interaction, private=private))
        await edit_response(interaction, content=language_of(interaction, private=private)(FRESH))

    @scene.command(name="show", description="Read the scene, and see who asked for each speech.")
    async def show(self, interaction: discord.Interaction[Any]) -> None:
        """Show the last page of the scene to the sender alone."""
        await acknowledge(interaction, private=True)
        place = await self.bard.scenes.read_by(place_of(interaction), interaction.user.id)
        await _show_page(interaction, place, await self.bard.scenes.page(place))

    @scene.command(name="thread", description="Open a thread, and play this scene on there.")
    @app_commands.describe(name="The name of the thread")
    async def thread(
        self,
        interaction: discord.Interaction[Any],
        name: app_commands.Range[str, 1, NAME_LIMIT] | None = None,
    ) -> None:
        """Open a thread in which the scene of this channel goes on."""
        await open_thread(interaction, self.bard, name)

    @scene.command(name="forget", description="Delete what I remember of you or of this channel.")
    @app_commands.describe(what="Your own words, or all of this channel if you moderate it")
    async def forget(self, interaction: discord.Interaction[Any], what: ForgetChoice) -> None:
        """Ask for a confirmation."""
        style, language = discord.ButtonStyle, language_of(interaction)
        if what == "my words, everywhere":
            text = FORGET_MINE
            confirm = ConfirmForget(language(FORGET_MY_WORDS), "bard:forget:mine", style.danger)
        else:
            _require_channel_moderator(interaction)
            text = FORGET_CHANNEL
            confirm = ConfirmForget(
                language(FORGET_THIS_CHANNEL), "bard:forget:channel", style.danger
            )
        keep = ConfirmForget(language(KEEP_EVERYTHING), "bard:forget:nothing")
        await respond(interaction, language(text), view=view_of(confirm, keep))

    @scene.command(name="export", description="Export this scene or your data, for you alone.")
    @app_commands.describe(what="The scene played here, or all that I remember of you")
    async def export(self, interaction: discord.Interaction[Any], what: ExportChoice) -> None:
        """Send the current scene as a text, or all data of the sender as JSON."""
        await acknowledge(interaction, private=True)
        limit = min(interaction.filesize_limit or FILE_LIMIT, FILE_LIMIT)
        if what == "the scene, as a script":
            files = Attachments("scene.txt", limit=limit)
            await _send(interaction, files, self._script(interaction))
        else:
            files = Attachments(
                "about-me.json", opening="[\n", between=",\n", closing="\n]\n", limit=limit
            )
            if not await _send(interaction, files, self.bard.exports.read(interaction.user.id)):
                raise RejectedError(Reason.NOTHING_STORED)
            if shares_servers(interaction.client):
                language = language_of(interaction)
                await interaction.followup.send(
                    language(ELSEWHERE, then=language(EXPORTED_HERE)),
                    ephemeral=True,
                    allowed_mentions=discord.AllowedMentions.none(),
                )

    @scene.command(name="join", description="Take a part: I wait for your lines in it.")
    @app_commands.rename(name="as")
    @app_commands.describe(name="A speaker of this scene or of a play, or a name of your own")
    @app_commands.autocomplete(name=party.suggest_free)
    async def join(
        self,
        interaction: discord.Interaction[Any],
        name: app_commands.Range[str, 1, PART_NAME_LIMIT],
    ) -> None:
        """Give the sender a part."""
        await party.join(interaction, self.bard, name)

    @scene.command(name="leave", description="Give up your part: I speak for it again.")
    async def leave(self, interaction: discord.Interaction[Any]) -> None:
        """End the sender's part."""
        await party.leave(interaction, self.bard)

    @scene.command(name="dismiss", description="For moderators: free a part that somebody has.")
    @app_commands.describe(part="The part")
    @app_commands.autocomplete(part=party.suggest_held)
    async def dismiss(
        self,
        interaction: discord.Interaction[Any],
        part: app_commands.Range[str, 1, PART_NAME_LIMIT],
    ) -> None:
        """End a part of anybody's."""
        await party.dismiss(interaction, self.bard, part)

    @scene.command(name="parts", description="See who plays which part in this scene.")
    async def parts(self, interaction: discord.Interaction[Any]) -> None:
        """Show the parts to the sender alone."""
        await party.show(interaction, self.bard)

    async def _script(self, interaction: discord.Interaction[Any]) -> AsyncIterator[str]:
        """Yield the text of the scene in pieces, then the people who asked for it."""
        place = await self.bard.scenes.read_by(place_of(interaction), interaction.user.id)
        requesters: dict[int, None] = {}
        async for piece in self.bard.scenes.script(place):
            for requester, text in piece:
                requesters[requester] = None
                yield text
        named = list(requesters)[:_NAMED]
        language = language_of(interaction)
        names = list((await names_of(interaction, named, language)).values())
        if others := len(requesters) - len(named):
            names.append(language.plural(OTHERS, others))
        channel, listed = getattr(interaction.channel, "name", None), ", ".join(names)
        end = language(SCRIPT, names=listed)
        if channel:
            end = language(SCRIPT_OF, channel=channel, names=listed)
        yield f"\n\n\n{end}\n"


def _require_channel_moderator(interaction: discord.Interaction[Any]) -> None:
    """Reject a deletion of a channel that the sender does not moderate, or that is not known."""
    # In a conversation that belongs to no server, nobody is a moderator, and all are equal.
    if not moderates(interaction) and not interaction.context.private_channel:
        raise RejectedError(Reason.NOT_MODERATOR)
    if interaction.channel_id is None:
        raise RejectedError(Reason.CHANNEL_UNKNOWN)


async def _show_page(interaction: discord.Interaction[Any], place: Place, page: Page) -> None:
    """Edit the response of an acknowledged interaction to show a page of a place's scene."""
    language = language_of(interaction)
    names = await names_of(interaction, (turn.user_id for turn in page.turns), language)
    prefix, turns = f"bard:page:{'own:' if place.audience else ''}{page.scene}", page.turns
    earlier = TurnPage(
        language(PREVIOUS_PAGE), f"{prefix}:before:{turns[0].id}", disabled=not page.has_earlier
    )
    later = TurnPage(
        language(NEXT_PAGE), f"{prefix}:after:{turns[-1].id}", disabled=not page.has_later
    )
    more = page.has_earlier or page.has_later
    await edit_response(
        interaction,
        embeds=scene_page(page, names, language),
        view=view_of(earlier, later) if more else None,
    )


async def _send(
    interaction: discord.Interaction[Any], files: Attachments, records: AsyncIterator[str]
) -> bool:
    """Send records in files, each in a message of its own; return whether there were any."""
    async for record in records:
        if (full := files.add(record)) is not None:
            await _send_file(interaction, *full)
    last = files.last()
    if last is not None:
        await _send_file(interaction, *last)
    return last is not None


async def _send_file(interaction: discord.Interaction[Any], name: str, data: bytes) -> None:
    await interaction.followup.send(
        file=discord.File(io.BytesIO(data), name),
        ephemeral=True,
        allowed_mentions=discord.AllowedMentions.none(),
    )
