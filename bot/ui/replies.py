"""Respond to interactions with replies, and handle the buttons below them."""

import logging
import re
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any

import discord

from ..bard import Bard
from ..core.request_queue import Request
from ..core.settlement import MessageRef, Shown
from ..errors import Reason, RejectedError
from ..languages import Language, Text
from ..storage.guild_settings import Rules
from ..storage.records import Place, Turn, TurnRequest
from .access import require_channel, require_person, roles_of
from .components import Button, custom_ids_of, may_change, view_of
from .embeds import embeds, headline, line_text, reply_text, shown_prompt
from .forms import open_prompt_form
from .interactions import (
    NETWORK_ERRORS,
    acknowledge,
    acknowledge_press,
    brief,
    delete_response,
    edit_response,
    look_first,
    place_of,
    repeat,
    respond,
)
from .localisation import language_of, language_of_message
from .names import Viewpoint, viewpoint_of
from .parts import Speak, cue_of, require_speaker
from .queue_status import FollowupTarget, QueueStatus, ResponseTarget

log = logging.getLogger(__name__)

_CONTINUE_ID = r"bard:continue:(?P<turn>[0-9]+)"
SHORTENED = Text("Here my replies end at {limit:,} characters.")
CONTINUE = Text("Continue", "button")
REROLL = Text("Reroll", "button")
EDIT_PROMPT = Text("Edit prompt", "button")
DELETE = Text("Delete", "button")
EARLIER_TAKE = Text("◀ Earlier take", "button")
LATER_TAKE = Text("Later take ▶", "button")


async def reply_to(
    interaction: discord.Interaction[Any],
    bard: Bard,
    prompt: str | None,
    *,
    max_chars: int | None = None,
    temperature: float | None = None,
    seed: int | None = None,
    fresh: bool = False,
    private: bool = False,
    voice: str | None = None,
    quoted: bool = False,
) -> None:
    """Play a turn in response to an interaction that is not acknowledged yet.

    Options of None take the defaults of the place.

    Args:
        interaction: The interaction.
        bard: The services.
        prompt: The prompt; None continues the scene.
        max_chars: Longest reply in characters.
        temperature: See `noskgpt.Generator.generate`.
        seed: See `noskgpt.Generator.generate`.
        fresh: Whether the turn starts a new scene.
        private: Whether only the sender of the interaction shall see the reply.
        voice: Name of the voice that replies.
        quoted: See `TurnRequest.quoted`.

    Raises:
        RejectedError: The request is not accepted, there is no scene to continue, no such voice, or
            a line is another person's.
    """

    async def request(place: Place) -> TurnRequest:
        return TurnRequest(
            place=place,
            user_id=interaction.user.id,
            prompt=None if prompt is None else storable(prompt),
            max_chars=max_chars,
            temperature=temperature,
            seed=seed,
            fresh=fresh,
            voice=None if voice is None else bard.voices.named(voice),
            quoted=quoted,
        )

    async def check() -> None:
        place = place_of(interaction)
        asked = await request(place)
        if prompt is None:
            await bard.scenes.require_scene(place)
        if not private:
            await bard.scenes.parts.require_turn(asked)

    await _play(interaction, bard, request, check, private=private)


def storable(prompt: str) -> str:
    """Return a prompt that can be stored, and that is no complete speech of a part yet."""
    # JSON can carry a lone surrogate, which neither SQLite nor a message can.
    return prompt.encode(errors="replace").decode().rstrip("\n")


async def reply_to_line(
    interaction: discord.Interaction[Any], bard: Bard, turn_id: int, words: str
) -> None:
    """Play a turn that begins with the line of the sender's part, from a form.

    Args:
        interaction: The submission of the form.
        bard: The services.
        turn_id: The turn whose message had the form.
        words: The line.

    Raises:
        RejectedError: The request is not accepted, or the sender is not to speak.
    """

    async def request(place: Place) -> TurnRequest:
        turn = await bard.turns.find(turn_id)
        part = await require_speaker(interaction, bard, turn)
        assert turn is not None  # noqa: S101 - checked
        return TurnRequest(
            place=place,
            user_id=interaction.user.id,
            prompt=storable(f"{part.name}: {words}"),
            max_chars=turn.max_chars,
            temperature=turn.temperature,
        )

    async def check() -> None:
        if not words.strip():
            raise RejectedError(Reason.EMPTY_LINE)
        await bard.scenes.parts.require_turn(await request(place_of(interaction)))

    await _play(interaction, bard, request, check, private=False, cooldown=False)


async def _play(
    interaction: discord.Interaction[Any],
    bard: Bard,
    make_request: Callable[[Place], Awaitable[TurnRequest]],
    check: Callable[[], Awaitable[object]],
    *,
    private: bool,
    cooldown: bool = True,
    allow: Callable[[], None] | None = None,
) -> None:
    """Accept, acknowledge and answer an interaction.

    Args:
        interaction: The interaction.
        bard: The services.
        make_request: Returns the request, given the place of the response. It is called after
            the acknowledgement, so it may use the database.
        check: Rejects a request that `make_request` or the scene would reject.
        private: Whether only the sender of the interaction shall see the reply. Discord may decide
            so itself.
        cooldown: Whether the person's cooldown applies.
        allow: One more of `Request.checks`.
    """
    with accept(interaction, bard, cooldown=cooldown) as queued:
        if allow is not None:
            queued.checks.append(allow)
        await look_first(check())
        acknowledgement = await acknowledge(interaction, private=private)
        target = ResponseTarget(interaction)
        language = language_of(interaction, private=acknowledgement.private)
        async with QueueStatus(target, queued, bard.wait, language) as status:
            request = await make_request(place_of(interaction, private=acknowledgement.private))
            message_id = acknowledgement.message_id
            if acknowledgement.private and not request.place.audience:
                message_id = None  # a look at it through the channel would not find it
            display = _NewReply(interaction, bard, target, status, message_id, language)
            turn = await bard.scenes.play(request, display, queued)
            acknowledgement.placeholder = False  # it shows the reply, though Discord may not say so
            if request.max_chars is not None and request.max_chars > turn.max_chars:
                text = language_of(interaction)(SHORTENED, limit=turn.max_chars)
                try:
                    await respond(interaction, text)
                except (discord.HTTPException, *NETWORK_ERRORS) as error:
                    # The reply stands. An apology below it would be wrong.
                    log.warning("Could not tell why a reply is short: %s", brief(error))


class _NewReply:
    """The response to an interaction, which shows a reply once there is one."""

    def __init__(
        self,
        interaction: discord.Interaction[Any],
        bard: Bard,
        target: ResponseTarget,
        status: QueueStatus,
        message_id: int | None,
        language: Language,
    ) -> None:
        self.message_id = message_id
        self._language = language
        self.token: str | None = interaction.token
        self._interaction = interaction
        self._bard = bard
        self._target = target
        self._status = status

    async def show(self, turn: Turn, dropped: str) -> Shown:
        """Replace the placeholder, or the status of the request, by the reply."""
        await self._status.stop()
        author = headline(turn, self._interaction.user.display_name, self._language)
        viewpoint = viewpoint_of(self._interaction, self._language)
        content = await content_of(turn, author, dropped, viewpoint, self._bard)
        message = await repeat(
            lambda: self._target.show_reply(content.embeds, content.view, content.text),
            self._bard.wait,
        )
        return _shown(self._interaction, message)


class _InPlace:
    """The message of the pressed button, which shows another take.

    The line above the reply, which has the name of the requester, stays.
    """

    def __init__(self, interaction: discord.Interaction[Any], bard: Bard) -> None:
        assert interaction.message is not None  # noqa: S101 - buttons are on messages
        self.message_id: int | None = interaction.message.id
        self.token: str | None = interaction.token
        self._interaction = interaction
        self._bard = bard
        above = [embed.author.name for embed in interaction.message.embeds if embed.author.name]
        self._above = above[0] if above else None

    async def show(self, turn: Turn, dropped: str) -> Shown:
        """Edit the message."""
        language = language_of_message(self._interaction)
        author = self._above or headline(turn, "", language)
        viewpoint = viewpoint_of(self._interaction, language)
        content = await content_of(turn, author, dropped, viewpoint, self._bard)
        message = await repeat(
            lambda: edit_response(
                self._interaction, content=content.text, embeds=content.embeds, view=content.view
            ),
            self._bard.wait,
        )
        return _shown(self._interaction, message)


def _shown(interaction: discord.Interaction[Any], message: discord.InteractionMessage) -> Shown:
    return Shown(message.id, interaction.user.id if message.flags.ephemeral else 0)


@dataclass(frozen=True, slots=True)
class Content:
    """What the message of a turn shows."""

    text: str | None
    """Above the embeds."""
    embeds: list[discord.Embed]
    view: discord.ui.View


async def content_of(
    turn: Turn, author: str, dropped: str, viewpoint: Viewpoint, bard: Bard
) -> Content:
    """Return what the message of a turn shows.

    Args:
        turn: The turn.
        author: See `embeds`.
        dropped: See `embeds`.
        viewpoint: Looks up the name of the person who is to speak next, if anybody is; its language
            is that of the message.
        bard: The services.
    """
    cue = await cue_of(viewpoint, bard, turn)
    language = viewpoint.language
    pages = embeds(turn, language, author=author, dropped=dropped, cue=cue)
    return Content(line_text(turn), pages, reply_view(turn, language, speak=cue is not None))


def turn_id_of(message: discord.Message) -> int | None:
    """Return the turn whose buttons a message has; None for a placeholder, a status and others."""
    for custom_id in custom_ids_of(message):
        match = re.fullmatch(_CONTINUE_ID, custom_id)
        if match is not None:
            return int(match["turn"])
    return None


def accept(
    interaction: discord.Interaction[Any], bard: Bard, *, cooldown: bool = True
) -> AbstractContextManager[Request]:
    """Hold a place in the queue for an interaction while the context lasts.

    Called before the acknowledgement, so that a rejection needs no message to be deleted.

    Raises:
        RejectedError: See `Admission.accept`.
    """
    place = place_of(interaction)
    return accept_from(interaction.user, place, interaction.id, bard, cooldown=cooldown)


def accept_from(
    user: discord.User | discord.Member,
    place: Place,
    request_id: int,
    bard: Bard,
    *,
    cooldown: bool = True,
) -> AbstractContextManager[Request]:
    """Hold a place in the queue for somebody's request while the context lasts.

    Raises:
        RejectedError: See `Admission.accept`.
    """

    def rules() -> Rules:
        found = bard.guild_settings.rules(place.guild_id)
        return found if cooldown else replace(found, cooldown=0)

    return bard.admission.accept(
        request_id,
        user_id=user.id,
        guild_id=place.guild_id,
        channels=place.channel_ids,
        rules=rules,
        roles=roles_of(user),
    )


def reply_view(turn: Turn, language: Language, *, speak: bool = False) -> discord.ui.View:
    """Return the buttons below a turn.

    Args:
        turn: The turn.
        language: That of their labels.
        speak: Whether a person is to speak after it.
    """
    style = discord.ButtonStyle
    buttons: list[Button] = [
        Continue(language(CONTINUE), Continue.id_for(turn), style.primary),
        Reroll(language(REROLL), f"bard:reroll:{turn.id}"),
    ]
    if turn.prompt is not None:
        buttons.append(EditPrompt(language(EDIT_PROMPT), f"bard:edit:{turn.id}"))
    buttons.append(Delete(language(DELETE), f"bard:delete:{turn.id}", style.danger))
    if turn.takes > 1:
        take = f"bard:take:{turn.id}:"
        first, last = turn.number == 1, turn.number == turn.takes
        buttons += [
            ShowTake(language(EARLIER_TAKE), f"{take}{turn.number - 1}", disabled=first, row=1),
            ShowTake(language(LATER_TAKE), f"{take}{turn.number + 1}", disabled=last, row=1),
        ]
    if speak:
        buttons.insert(0, Speak.for_turn(turn, language))
    return view_of(*buttons)


class Continue(Button, template=_CONTINUE_ID):
    """Continue the scene in a new message. For everyone, unless the server restricts it."""

    @staticmethod
    def id_for(turn: Turn) -> str:
        """Return the custom id of the button below a turn."""
        return f"bard:continue:{turn.id}"

    async def press(self, interaction: discord.Interaction[Any], bard: Bard) -> None:
        """Play another turn with the voice, the length and the temperature of this one."""
        ref = _message_ref(interaction, int(self["turn"]))
        requester: int | None = None

        def allow() -> None:
            restricted = bard.guild_settings.rules(interaction.guild_id).buttons != "everyone"
            if restricted and requester and not may_change(interaction, requester):
                raise RejectedError(Reason.BUTTONS_RESTRICTED)

        async def find() -> Turn:
            nonlocal requester
            turn = await bard.scenes.find_in_scene(ref)
            requester = turn.user_id
            allow()
            await bard.scenes.parts.require_turn(
                TurnRequest(place=turn.place, user_id=interaction.user.id, prompt=None)
            )
            return turn

        async def request(place: Place) -> TurnRequest:
            turn = await find()
            if not turn.place.audience or place.audience:
                # Otherwise the host has acknowledged the press for all to see.
                place = turn.place
            return TurnRequest(
                place=place,
                user_id=interaction.user.id,
                prompt=None,
                max_chars=turn.max_chars,
                temperature=turn.temperature,
                voice=turn.take.voice,
            )

        # What goes on from words for one person alone is for that person alone.
        await _play(interaction, bard, request, find, private=bool(ref.audience), allow=allow)


class Reroll(Button, template=r"bard:reroll:(?P<turn>[0-9]+)"):
    """Generate another take of the turn. For its requester and moderators."""

    async def press(self, interaction: discord.Interaction[Any], bard: Bard) -> None:
        """Show a new take; the earlier ones are kept."""
        with accept(interaction, bard) as request:
            await acknowledge_press(interaction)
            ref = await _changeable(interaction, bard, int(self["turn"]))
            target, language = FollowupTarget(interaction), language_of(interaction)
            async with QueueStatus(target, request, bard.wait, language):
                await bard.scenes.reroll(ref, _InPlace(interaction, bard), request)


class EditPrompt(Button, template=r"bard:edit:(?P<turn>[0-9]+)"):
    """Open a form with the prompt of the turn, for another take. For its requester alone.

    Moderators may delete what somebody said, but not put other words into their mouth.
    """

    async def press(self, interaction: discord.Interaction[Any], bard: Bard) -> None:
        """Open the form: with the prompt, or with what the message shows of it.

        A form has to be the first response to a press, so the database may take only a moment.
        """
        ref = _message_ref(interaction, int(self["turn"]))
        assert interaction.message is not None  # noqa: S101 - buttons are on messages
        prompt = shown_prompt(interaction.message.embeds)

        async def find() -> None:
            nonlocal prompt
            prompt = (await _own(interaction, bard, ref)).prompt or ""

        await look_first(find())
        await open_prompt_form(interaction, ref.turn_id, prompt)


async def play_edited(
    interaction: discord.Interaction[Any], bard: Bard, turn_id: int, prompt: str
) -> None:
    """Show another take of a turn from a changed prompt, in response to the form.

    Raises:
        RejectedError: The request is not accepted, the turn was deleted, or the prompt is that of
            another person.
    """
    with accept(interaction, bard) as request:
        await acknowledge_press(interaction)
        ref = _message_ref(interaction, turn_id)
        await _own(interaction, bard, ref)
        words = storable(prompt)
        target, language = FollowupTarget(interaction), language_of(interaction)
        async with QueueStatus(target, request, bard.wait, language):
            await bard.scenes.reroll(ref, _InPlace(interaction, bard), request, prompt=words)


class ShowTake(Button, template=r"bard:take:(?P<turn>[0-9]+):(?P<take>[0-9]+)"):
    """Show another take, which becomes part of the scene. For its requester and moderators."""

    async def press(self, interaction: discord.Interaction[Any], bard: Bard) -> None:
        """Show the take."""
        require_person(interaction, bard)
        require_channel(interaction, bard)
        await acknowledge_press(interaction)
        ref = await _changeable(interaction, bard, int(self["turn"]))
        await bard.scenes.select_take(ref, int(self["take"]), _InPlace(interaction, bard))


class Delete(Button, template=r"bard:delete:(?P<turn>[0-9]+)"):
    """Delete the turn and its message. For its requester and moderators."""

    async def press(self, interaction: discord.Interaction[Any], bard: Bard) -> None:
        """Delete the stored turn, then the message; the message alone if the turn is gone."""
        await acknowledge_press(interaction)

        async def delete_message() -> None:
            try:
                # The message with the button: this works where the bot is no member, too.
                await repeat(lambda: delete_response(interaction), bard.wait)
            except discord.HTTPException as error:
                raise RejectedError(Reason.MESSAGE_STAYS) from error

        try:
            ref = await _changeable(interaction, bard, int(self["turn"]))
        except RejectedError as error:
            # The words were forgotten, or an earlier press was cut short between turn and message.
            if error.reason is not Reason.TURN_FORGOTTEN or not _may_remove(interaction):
                raise
            await delete_message()
        else:
            await bard.scenes.delete(ref, delete_message)


def _may_remove(interaction: discord.Interaction[Any]) -> bool:
    """Return whether a person may remove a message whose turn is gone.

    Those may who asked for it, as far as Discord says who did, and moderators; a message that one
    person alone sees is that person's.
    """
    message = interaction.message
    assert message is not None  # noqa: S101 - buttons are on messages
    metadata = message.interaction_metadata
    requester = 0 if metadata is None else metadata.user.id
    return message.flags.ephemeral or may_change(interaction, requester)


def _message_ref(interaction: discord.Interaction[Any], turn_id: int) -> MessageRef:
    message = interaction.message
    assert message is not None  # noqa: S101 - buttons are on messages
    return MessageRef(
        turn_id=turn_id,
        message_id=message.id,
        audience=interaction.user.id if message.flags.ephemeral else 0,
        text=reply_text(message.embeds),
    )


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


async def _own(interaction: discord.Interaction[Any], bard: Bard, ref: MessageRef) -> Turn:
    """Return the turn of a message that a person is about to give other words.

    Raises:
        RejectedError: The words are those of another person, or the turn was deleted.
    """
    turn = await bard.scenes.find(ref)
    if interaction.user.id != turn.user_id:
        raise RejectedError(Reason.NOT_YOUR_WORDS)
    return turn
