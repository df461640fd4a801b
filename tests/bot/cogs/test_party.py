"""Scenes in which members play parts, by what they type and press.

The bundled weights play the rest: by their casts, a person who is called by name speaks next.
"""

import re
from typing import Any

import discord
import pytest
from simcord.actors import MemberActor
from simcord.results import InteractionResult, ResponseMessage

from bot.cogs import party
from bot.cogs.party import NO_PARTS
from bot.cogs.scene import FORGOT_MARKS
from bot.core.parts import IDLE_SECONDS, SILENCE_SECONDS
from bot.errors import Reason
from bot.storage.records import Place
from bot.ui import interactions, replies
from bot.ui.forms import PROMPT_FIELD
from bot.ui.responses import REJECTIONS
from tests.bot.cogs.test_retention import pass_time
from tests.bot.conftest import Stage, content_of, labels_of, message_of, text_of

pytestmark = pytest.mark.settings(weights=None)

INPUT = "line"
SPEAKER_LINE = re.compile(r"^([A-Z][\w' ]*):$", re.MULTILINE)


def said(reason: Reason, result: InteractionResult) -> bool:
    """Return whether the sender alone is told this reason."""
    pattern = re.sub(r"\\\{\w+\\\}", ".*", re.escape(REJECTIONS[reason]))
    message = result.followups[-1] if result.followups else message_of(result)
    return message.ephemeral and re.fullmatch(pattern, message.content or "") is not None


def cues_of(result: InteractionResult) -> list[tuple[str, str]]:
    """Return the announcements of lines below a reply."""
    return [
        (field.name or "", field.value or "")
        for embed in message_of(result).embeds
        for field in embed.fields
    ]


def description_of(result: InteractionResult) -> str:
    return "".join(embed.description or "" for embed in message_of(result).embeds)


async def join(stage: Stage, member: MemberActor, part: str) -> InteractionResult:
    return await member.slash(stage.garden, "scene join", **{"as": part})


async def ask(
    stage: Stage, member: MemberActor, prompt: str, **options: object
) -> InteractionResult:
    return await member.slash(stage.garden, "bard", prompt=prompt, **options)


async def speak(member: MemberActor, message: ResponseMessage, line: str) -> InteractionResult:
    form = await member.click(message, label="Speak")
    return await member.submit_modal(form, {INPUT: line})


async def edit(member: MemberActor, message: ResponseMessage, prompt: str) -> InteractionResult:
    form = await member.click(message, label="Edit prompt")
    return await member.submit_modal(form, {PROMPT_FIELD: prompt})


async def parts_in(stage: Stage) -> dict[str, str]:
    """Return who plays which part in the garden."""
    _, *lines = content_of(await stage.ann.slash(stage.garden, "scene parts")).split("\n")
    return dict(line.split(": ") for line in lines)


async def test_two_members_and_the_bard_play_a_scene(stage: Stage) -> None:
    joined = await join(stage, stage.ann, "juliet")
    assert not joined.ephemeral
    assert content_of(joined).startswith("ann plays JULIET from now on.")
    await join(stage, stage.ben, "ROMEO:")

    # Ann calls Ben's part: the bard has nothing to say before it.
    called = await ask(stage, stage.ann, "O Romeo, Romeo! Wherefore art thou Romeo")
    assert message_of(called).content == ("**JULIET:**\nO Romeo, Romeo! Wherefore art thou Romeo")
    assert "ann speaks as JULIET" in text_of(called)
    ((name, text),) = cues_of(called)
    assert name == "ROMEO, your line."
    assert text.startswith("ben plays ROMEO: press *Speak*")
    assert description_of(called) == ""
    assert not message_of(called).message.mentions

    # Ben calls the Nurse, whom the bard plays, until it comes to one of the two.
    answer = await speak(
        stage.ben, message_of(called), "Ask thy Nurse.\n\nJULIET:\nI say: nothing, Nurse!"
    )
    assert message_of(answer).content == (
        "**ROMEO:**\nAsk thy Nurse.\nJULIET\nI say: nothing, Nurse!"
    )
    first, second = await stage.turns(stage.garden.id)
    assert second.user_id == stage.ben.id
    assert second.prompt == "ROMEO:\nAsk thy Nurse.\nJULIET\nI say: nothing, Nurse!\n\n"
    assert stage.contexts[-1].endswith(f"Romeo\n\n{second.prompt}")
    assert (first.reply, first.take.cue) == ("", "ROMEO")
    assert SPEAKER_LINE.findall(second.reply)[0] == "Nurse"
    assert not {"ROMEO", "JULIET"} & set(SPEAKER_LINE.findall(second.reply))

    shown = text_of(await stage.ann.slash(stage.garden, "scene show"))
    assert "ben speaks as ROMEO\n**ROMEO:**\nAsk thy Nurse." in shown
    export = await stage.ann.slash(stage.garden, "scene export", what="the scene, as a script")
    (file,) = message_of(export).attachments
    script = (await file.read()).decode()
    assert script.startswith("JULIET:\nO Romeo, Romeo! Wherefore art thou Romeo\n\nROMEO:\nAsk")
    assert not stage.env.errors


async def test_replies_end_where_a_part_is_to_speak_and_takes_keep_that(stage: Stage) -> None:
    await ask(stage, stage.ann, "JULIET: O Romeo, where is the Nurse?", max_chars=400)
    await join(stage, stage.ben, "Steve")  # whom no play has
    reply = await ask(stage, stage.ann, "ROMEO: Speak, Steve, speak!")
    assert cues_of(reply)[0][0] == "STEVE, your line."
    assert labels_of(message_of(reply))[0] == "Speak"

    await stage.ann.click(message_of(reply), label="Reroll")
    (*_, turn) = await stage.turns(stage.garden.id)
    assert (turn.number, turn.take.cue) == (2, "STEVE")
    await stage.ben.slash(stage.garden, "scene leave")
    await stage.ann.click(message_of(reply), label="Reroll")
    assert "Speak" not in labels_of(message_of(reply))
    assert cues_of(reply) == []
    await join(stage, stage.ben, "STEVE")
    await stage.ann.click(message_of(reply), label="◀ Earlier take")
    assert cues_of(reply)[0][0] == "STEVE, your line."


async def test_only_the_person_who_plays_a_part_speaks_for_it(stage: Stage) -> None:
    await join(stage, stage.ben, "ROMEO")
    assert said(Reason.PART_TAKEN, await join(stage, stage.ann, "Romeo"))
    assert said(Reason.PART_TAKEN, await ask(stage, stage.ann, "ROMEO: I am a fool"))
    called = await ask(stage, stage.ann, "JULIET: Where art thou, Romeo?")
    pressed = await stage.ann.click(message_of(called), label="Speak")
    assert said(Reason.PART_TAKEN, pressed)
    assert f"<@{stage.ben.id}>" in content_of(pressed)

    # While the line is awaited, the scene does not go on by itself, but by others' words.
    assert said(Reason.LINE_AWAITED, await stage.ann.slash(stage.garden, "scene continue"))
    assert said(Reason.LINE_AWAITED, await stage.ann.click(message_of(called), label="Continue"))
    await ask(stage, stage.ann, "Nurse: Good Peter!", max_chars=40)
    await stage.ann.slash(stage.garden, "scene continue")
    assert [turn.prompt for turn in await stage.turns(stage.garden.id)] == [
        "JULIET: Where art thou, Romeo?",
        "Nurse: Good Peter!",
        None,
    ]
    # The part is still Ben's, who speaks below the message that waited for him.
    await speak(stage.ben, message_of(called), "Romeo: Here am I")
    assert (await stage.turns(stage.garden.id))[-1].prompt == "ROMEO:\nHere am I\n\n"
    assert said(Reason.EMPTY_LINE, await speak(stage.ben, message_of(called), "☺ ☺"))
    assert not stage.env.errors


async def test_bard_does_not_go_on_with_the_speech_of_a_part(stage: Stage) -> None:
    await ask(stage, stage.ann, "ROMEO: O, she doth", max_chars=30)
    await join(stage, stage.ben, "ROMEO")
    await stage.ann.slash(stage.garden, "scene continue")
    (_, turn) = await stage.turns(stage.garden.id)
    assert stage.contexts[-1].endswith("\n\n")
    assert turn.reply.startswith("\n")
    assert SPEAKER_LINE.match(turn.reply.lstrip())


@pytest.mark.settings(weights=None, cooldown=60)
async def test_line_costs_no_cooldown_and_needs_a_place_in_the_queue(stage: Stage) -> None:
    await join(stage, stage.ben, "ROMEO")
    called = await ask(stage, stage.ben, "JULIET: Romeo!")
    await speak(stage.ben, message_of(called), "Juliet!")
    assert len(await stage.turns(stage.garden.id)) == 2
    stage.bard.queue.close()
    assert said(Reason.CLOSING, await speak(stage.ben, message_of(called), "Juliet!"))


async def test_silence_ends_a_part_whose_line_is_awaited(stage: Stage) -> None:
    await join(stage, stage.ann, "JULIET")
    await join(stage, stage.ben, "ROMEO")
    called = await ask(stage, stage.ann, "O Romeo!")
    await stage.env.advance_time(SILENCE_SECONDS - 1)
    assert said(Reason.LINE_AWAITED, await stage.ann.slash(stage.garden, "scene continue"))
    await stage.env.advance_time(2)
    form = await stage.ben.click(message_of(called), label="Speak")
    assert said(Reason.PART_GIVEN_UP, form)
    assert await parts_in(stage) == {"JULIET": "ann"}
    await stage.ann.slash(stage.garden, "scene continue")
    (_, turn) = await stage.turns(stage.garden.id)
    assert SPEAKER_LINE.findall(turn.reply)[0] == "ROMEO"  # the bard speaks for him


async def test_parts_end_after_a_day_without_a_turn(stage: Stage) -> None:
    await join(stage, stage.ann, "JULIET")
    await pass_time(stage, IDLE_SECONDS - 60)
    await ask(stage, stage.ben, "Good Peter!", max_chars=20)
    await pass_time(stage, IDLE_SECONDS - 60)
    assert await parts_in(stage) == {"JULIET": "ann"}
    await stage.env.advance_time(120)
    assert await parts_in(stage) == {}


async def test_play_goes_on_after_a_restart(stage: Stage) -> None:
    await join(stage, stage.ann, "JULIET")
    await join(stage, stage.ben, "ROMEO")
    called = await ask(stage, stage.ann, "O Romeo!")
    form = await stage.ben.click(message_of(called), label="Speak")
    await stage.restart()
    await stage.ben.submit_modal(form, {INPUT: "Juliet!"})
    (_, turn) = await stage.turns(stage.garden.id)
    assert (turn.prompt, turn.take.cue) == ("ROMEO:\nJuliet!\n\n", "JULIET")
    await speak(stage.ben, message_of(called), "Juliet, once more!")
    assert len(await stage.turns(stage.garden.id)) == 3
    assert not stage.env.errors


async def test_part_is_left_changed_and_freed_by_a_moderator(stage: Stage) -> None:
    assert content_of(await stage.ann.slash(stage.garden, "scene parts")) == NO_PARTS
    await join(stage, stage.ann, "JULIET")
    await join(stage, stage.ann, "Nurse")
    await join(stage, stage.ben, "ROMEO")
    assert await parts_in(stage) == {"Nurse": "ann", "ROMEO": "ben"}
    listed = await stage.ben.slash(stage.garden, "scene parts")
    assert listed.ephemeral
    assert "Nurse: ann\nROMEO: ben" in content_of(listed)

    left = await stage.ann.slash(stage.garden, "scene leave")
    assert content_of(left).startswith("ann plays Nurse no longer.")
    assert said(Reason.NO_PART, await stage.ann.slash(stage.garden, "scene leave"))
    await join(stage, stage.ann, "NURSE")
    refused = await stage.ben.slash(stage.garden, "scene dismiss", part="nurse")
    assert said(Reason.NOT_PART_MODERATOR, refused)
    freed = await stage.ann.slash(stage.garden, "scene dismiss", part="romeo")
    assert content_of(freed).startswith("ann frees the part of ROMEO")
    assert await parts_in(stage) == {"Nurse": "ann"}
    assert said(
        Reason.PART_FREE, await stage.ann.slash(stage.garden, "scene dismiss", part="ROMEO")
    )
    assert not stage.env.errors


async def test_parts_end_with_their_scene_and_begin_before_it(stage: Stage) -> None:
    await join(stage, stage.ben, "ROMEO")
    await ask(stage, stage.ann, "JULIET: O Romeo!", fresh=True)  # the scene had not begun
    assert await parts_in(stage) == {"ROMEO": "ben"}
    await ask(stage, stage.ann, "LEAR: Fool!", max_chars=20, fresh=True)
    assert await parts_in(stage) == {}
    await join(stage, stage.ben, "FOOL")
    await stage.ann.slash(stage.garden, "scene fresh")
    assert await parts_in(stage) == {}


async def test_part_has_a_name_that_the_model_can_read(stage: Stage) -> None:
    for name in ("x²", "...", "🎭", ":", "A: B"):
        assert said(Reason.PART_NAME, await join(stage, stage.ann, name))
    await join(stage, stage.ann, " zoë  of  the hill: ")
    assert await parts_in(stage) == {"ZOE OF THE HILL": "ann"}


async def test_names_are_suggested(stage: Stage) -> None:
    await ask(stage, stage.ann, "STEVE: Good Peter!", max_chars=20)
    await join(stage, stage.ben, "ROMEO")
    free = [
        choice["value"]
        for choice in await stage.ann.autocomplete(stage.garden, "scene join", "as", "")
    ]
    assert "STEVE" in free[:5]
    assert "First Citizen" in free  # of the corpus
    assert "ROMEO" not in free
    held = await stage.ann.autocomplete(stage.garden, "scene dismiss", "part", "ro")
    assert [choice["value"] for choice in held] == ["ROMEO"]


async def test_replies_for_one_person_have_no_parts(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    await join(stage, stage.ben, "ROMEO")

    async def acknowledge_privately(
        interaction: discord.Interaction[Any], **_options: bool
    ) -> interactions.Acknowledgement:
        return await interactions.acknowledge(interaction, private=True)

    for module in (party, replies):
        monkeypatch.setattr(module, "acknowledge", acknowledge_privately)
    assert said(Reason.PARTS_PRIVATE, await join(stage, stage.ann, "JULIET"))
    whispered = await ask(stage, stage.ben, "O Juliet, where is Romeo? Romeo!", max_chars=30)
    assert message_of(whispered).ephemeral
    assert cues_of(whispered) == []
    place = Place(guild_id=None, channel_id=stage.garden.id, audience=stage.ben.id)
    (turn,) = await stage.bard.turns.tail(place, 1, chars=9)
    assert turn.prompt == "O Juliet, where is Romeo? Romeo!"
    # Parts that were taken before can be given up.
    left = await stage.ben.slash(stage.garden, "scene leave")
    assert message_of(left).ephemeral
    assert await parts_in(stage) == {}


async def test_member_and_bard_play_in_a_direct_message(stage: Stage) -> None:
    ben = stage.ben.user
    await ben.slash("scene join", **{"as": "ROMEO"})
    called = await ben.slash("bard", prompt="JULIET: Romeo!")
    form = await ben.click(message_of(called), label="Speak")
    answer = await ben.submit_modal(form, {INPUT: "Here am I, Juliet!"})
    assert SPEAKER_LINE.findall(description_of(answer).replace("*", ""))[0] == "JULIET"


async def test_forgetting_ones_words_ends_ones_parts(stage: Stage) -> None:
    await join(stage, stage.ben, "ROMEO")
    asked = await stage.ben.slash(stage.garden, "scene forget", what="my words, everywhere")
    await stage.ben.click(message_of(asked), label="Forget my words")
    assert content_of(asked) == FORGOT_MARKS
    assert await parts_in(stage) == {}


async def test_those_who_may_not_ask_may_not_play(stage: Stage) -> None:
    await stage.bard.guild_settings.change(stage.guild.id, channels=frozenset({stage.tavern.id}))
    assert said(Reason.WRONG_CHANNEL, await join(stage, stage.ben, "ROMEO"))
    await stage.bard.guild_settings.change(
        stage.guild.id, channels=frozenset(), denied_roles=frozenset({stage.guild.id})
    )
    assert said(Reason.ROLE_DENIED, await join(stage, stage.ben, "ROMEO"))


async def test_words_from_the_menu_are_nobodys_line(stage: Stage) -> None:
    await join(stage, stage.ben, "ROMEO")
    message = await stage.ann.send(stage.garden, "Good Peter, tell me")
    await stage.ben.context_menu(stage.garden, "Continue as Shakespeare", message)
    assert (await stage.turns(stage.garden.id))[-1].prompt == "Good Peter, tell me"


async def test_changed_prompt_gives_no_words_to_anothers_part(stage: Stage) -> None:
    asked = await ask(stage, stage.ben, "Good Peter!", max_chars=40)
    await join(stage, stage.ann, "JULIET")
    await join(stage, stage.ben, "ROMEO")
    line = await ask(stage, stage.ann, "O Nurse, what news?", max_chars=40)
    before = await stage.turns(stage.garden.id)
    contexts = len(stage.contexts)
    for member, message, prompts in (
        (stage.ann, line, ("ROMEO: I am a fool", "Nurse: Anon!\n Romeo : I am a fool")),
        (stage.ben, asked, ("JULIET: I love Paris", "Nurse: Anon!\n\nJuliet:\nI love Paris")),
    ):
        for prompt in prompts:
            refused = await edit(member, message_of(message), prompt)
            assert said(Reason.PART_TAKEN, refused), prompt
    assert said(Reason.EMPTY_LINE, await edit(stage.ann, message_of(line), "JULIET: ☺"))
    assert await stage.turns(stage.garden.id) == before
    assert len(stage.contexts) == contexts
    assert not stage.env.errors


async def test_changed_prompt_stays_the_line_of_its_part(stage: Stage) -> None:
    await join(stage, stage.ann, "JULIET")
    await join(stage, stage.ben, "ROMEO")
    reply = message_of(await ask(stage, stage.ann, "O Nurse, what news?", max_chars=40))
    for typed, prompt in (
        ("Good Nurse!\nROMEO: I am a fool", "JULIET:\nGood Nurse!\nROMEO, I am a fool\n\n"),
        ("Where is my Romeo?", "JULIET:\nWhere is my Romeo?\n\n"),
        ("Peter: Anon!", "Peter: Anon!"),  # whom the bard plays
        ("JULIET:", "JULIET:"),  # the bard is asked to speak for her
    ):
        await edit(stage.ann, reply, typed)
        (turn,) = await stage.turns(stage.garden.id)
        assert turn.prompt == prompt
    await stage.ann.click(reply, label="◀ Earlier take")
    await stage.ann.click(reply, label="◀ Earlier take")
    assert reply.content == "**JULIET:**\nWhere is my Romeo?"
    assert labels_of(reply)[0] == "Speak"  # Romeo's line is awaited

    # After a change of parts the words belong to whoever has the part now.
    await stage.ann.slash(stage.garden, "scene leave")
    await join(stage, stage.ben, "JULIET")
    assert said(Reason.PART_TAKEN, await edit(stage.ann, reply, "JULIET: Where is Romeo?"))
    await edit(stage.ann, reply, "Where is Romeo?")
    (turn,) = await stage.turns(stage.garden.id)
    assert turn.prompt == "Where is Romeo?"
    assert not stage.env.errors


async def test_another_take_of_an_earlier_reply_frees_no_part(stage: Stage) -> None:
    await join(stage, stage.ben, "ROMEO")
    called = await ask(stage, stage.ann, "JULIET: Romeo!")
    answer = await speak(stage.ben, message_of(called), "Here am I, Nurse!")
    await ask(stage, stage.ann, "Nurse: Good Peter!", max_chars=20)
    # Nobody awaits his line now, as somebody did before the reply that he changes.
    await stage.env.advance_time(SILENCE_SECONDS + 1)
    await edit(stage.ben, message_of(answer), "Not I, Nurse!")
    assert await parts_in(stage) == {"ROMEO": "ben"}
    assert (await stage.turns(stage.garden.id))[1].prompt == "ROMEO:\nNot I, Nurse!\n\n"
