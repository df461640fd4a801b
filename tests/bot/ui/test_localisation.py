"""Members and servers of several languages: each answer in the right one, and none unmarked."""

import gettext
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import discord
import pytest
from discord import app_commands
from simcord.actors import MemberActor
from simcord.builders import ChannelHandle, GuildHandle
from simcord.results import InteractionResult, ResponseMessage

from bot.cogs.scene import FORGET_MINE, FRESH
from bot.core.settlement import Sighting
from bot.errors import Reason
from bot.languages import ENGLISH, Language, Plural, language
from bot.ui import localisation
from bot.ui.localisation import CommandTranslator
from bot.ui.looks import looks_of
from bot.ui.replies import CONTINUE, DELETE, REROLL
from bot.ui.responses import HOW_TO_TALK, REJECTIONS
from tests.bot.cogs.test_voices import finished_run
from tests.bot.conftest import Stage, content_of, labels_of, message_of, text_of

GERMAN, FRENCH = language("de"), language("fr")


@dataclass
class Yard:
    """A German server with a channel."""

    server: GuildHandle
    channel: ChannelHandle
    ann: MemberActor
    """Manages the server."""
    ben: MemberActor


@pytest.fixture
def yard(stage: Stage) -> Yard:
    server = stage.env.create_guild("Das Theater", preferred_locale="de")
    managers = server.create_role("Leitung", permissions=discord.Permissions(administrator=True))
    return Yard(
        server,
        server.create_text_channel("hof"),
        server.add_member(stage.ann.user, roles=[managers]),
        server.add_member(stage.ben.user),
    )


def speaks(message: ResponseMessage | discord.Message, shown: Language) -> bool:
    """Return whether the buttons of a reply are in a language."""
    if isinstance(message, ResponseMessage):
        found = labels_of(message)
    else:
        rows = [row for row in message.components if isinstance(row, discord.ActionRow)]
        found = [getattr(item, "label", None) or "" for row in rows for item in row.children]
    return {shown(CONTINUE), shown(REROLL), shown(DELETE)} <= set(found)


async def test_german_in_an_english_server(stage: Stage, locales: dict[int, str]) -> None:
    locales[stage.ben.id] = "de"
    rejected = await stage.ben.slash(stage.garden, "scene continue")
    assert rejected.ephemeral
    assert content_of(rejected) == GERMAN(REJECTIONS[Reason.NO_SCENE])
    reply = await stage.ben.slash(stage.garden, "bard", prompt="ROMEO:", max_chars=20)
    assert "ben asks the bard" in text_of(reply)
    assert speaks(message_of(reply), ENGLISH)
    private = await stage.ben.slash(stage.garden, "bard", prompt="I", max_chars=20, private=True)
    assert "ben ruft den Barden" in text_of(private)
    assert re.search(r"\d+ Zeichen · \d,\d\d s", text_of(private))
    assert speaks(message_of(private), GERMAN)
    assert content_of(await stage.ben.slash(stage.garden, "scene fresh")) == FRESH
    asked = await stage.ben.slash(stage.garden, "scene forget", what="my words, everywhere")
    assert content_of(asked) == GERMAN(FORGET_MINE)
    await stage.ben.click(message_of(asked), label="Meine Worte vergessen")
    assert content_of(asked) == "Vergessen, Wort für Wort: 2 Reden."


async def test_english_and_french_person_in_a_german_server(
    stage: Stage, yard: Yard, locales: dict[int, str]
) -> None:
    rejected = await yard.ben.slash(yard.channel, "scene continue")
    assert content_of(rejected) == REJECTIONS[Reason.NO_SCENE]
    reply = message_of(await yard.ben.slash(yard.channel, "bard", prompt="ROMEO:", max_chars=20))
    assert speaks(reply, GERMAN)
    assert reply.embeds[0].author.name == "ben ruft den Barden"
    joined = await yard.ben.slash(yard.channel, "scene join", **{"as": "ROMEO"})
    assert content_of(joined).startswith("ben spielt von nun an ROMEO.")

    # Somebody with another language presses the buttons of the same message.
    carl = yard.server.add_member(stage.env.create_user("carl"))
    locales[carl.id] = "fr"
    refused = await carl.click(reply, label="Neue Fassung")
    assert FRENCH(REJECTIONS[Reason.NOT_REQUESTER]) in content_of(refused)
    await yard.ben.click(reply, label="Neue Fassung")
    assert (reply.embeds[0].footer.text or "").startswith("Fassung 2 von 2 · ")
    assert "◀ Frühere Fassung" in labels_of(reply)


async def test_buttons_work_after_the_language_of_the_server_has_changed(
    stage: Stage, yard: Yard, locales: dict[int, str]
) -> None:
    locales.clear()
    reply = message_of(await yard.ben.slash(yard.channel, "bard", prompt="ROMEO:", max_chars=20))
    (turn,) = await stage.turns(yard.channel.id)
    stage.env.backend.get_guild(yard.server.id).preferred_locale = "fr"
    assert await looks_of(stage.bot)(turn) == Sighting(turn.reply)
    continued = message_of(await yard.ben.click(reply, label="Weiter"))
    assert speaks(continued, FRENCH)
    await yard.ben.click(reply, label="Neue Fassung")
    assert speaks(reply, FRENCH)
    await yard.ben.click(reply, label="Supprimer")
    assert len(await stage.turns(yard.channel.id)) == 1


async def test_mention_is_answered_in_the_language_of_the_server(stage: Stage, yard: Yard) -> None:
    assert stage.bot.user is not None
    await stage.bard.guild_settings.change(yard.server.id, answer_mentions=True)
    await yard.ben.send(yard.channel, stage.bot.user.mention)
    await yard.ben.send(yard.channel, f"{stage.bot.user.mention} ROMEO:")
    notice, reply = [m for m in yard.channel.history() if m.author.id == stage.bot.user.id]
    assert notice.content == GERMAN(HOW_TO_TALK, name=stage.bot.user.display_name)
    assert reply.embeds[0].author.name == "ben ruft den Barden"
    assert speaks(reply, GERMAN)


async def test_direct_message_is_answered_in_the_language_of_the_last_command(
    stage: Stage, locales: dict[int, str]
) -> None:
    locales[stage.ben.id] = "de"
    conversation = stage.ben.user.dm_channel
    for command in ((), ("scene show",)):
        for name in command:
            await stage.ben.slash(stage.garden, name)
        await stage.ben.send_dm("ROMEO:")
    english, german = [m for m in conversation.history() if m.embeds]
    assert english.embeds[0].author.name == "ben asks the bard"
    assert german.embeds[0].author.name == "ben ruft den Barden"
    assert speaks(german, GERMAN)


async def test_form_of_the_settings_works_in_another_language(
    stage: Stage, locales: dict[int, str]
) -> None:
    locales[stage.ann.id] = "pt-BR"
    message = message_of(await stage.ann.slash(stage.garden, "bard-settings"))
    assert "Resposta mais longa: 4.000 caracteres" in message.content
    form = await stage.ann.click(message, custom_id="bard:settings:limits")
    rejected = await stage.ann.submit_modal(form, {"Cooldown": "1,5"})
    assert "Espera: um número inteiro de 0 a 3600, ou vazio; não '1,5'." in content_of(rejected)
    form = await stage.ann.click(message, custom_id="bard:settings:limits")
    await stage.ann.submit_modal(form, {"Longest reply": "300", "Temperature": "0,5"})
    assert "Temperatura dos pedidos que não a indicam: 0,5" in message.content
    assert stage.bard.guild_settings.rules(stage.guild.id).max_chars == 300


async def test_person_without_a_catalogue_reads_english(
    stage: Stage, locales: dict[int, str]
) -> None:
    locales[stage.ben.id] = "ja"
    rejected = await stage.ben.slash(stage.garden, "scene continue")
    assert content_of(rejected) == REJECTIONS[Reason.NO_SCENE]


async def test_commands_are_registered_with_their_translations(stage: Stage) -> None:
    commands = {command["name"]: command for command in stage.env.backend.commands[None].values()}
    scene = commands["scene"]
    assert scene["name_localizations"]["es-419"] == "escena"
    (forget,) = (option for option in scene["options"] if option["name"] == "forget")
    assert forget["name_localizations"]["fr"] == "oublier"
    (what,) = forget["options"]
    assert what["choices"][0]["value"] == "my words, everywhere"
    assert what["choices"][0]["name_localizations"]["de"] == "meine Worte, überall"
    menu = commands["Continue as Shakespeare"]
    assert menu["name_localizations"]["de"] == "Wie Shakespeare fortsetzen"


async def test_commands_of_a_host_are_not_translated(stage: Stage) -> None:
    @app_commands.command(name="remove", description="Show the daily scenes of this server.")
    @app_commands.choices(voice=[app_commands.Choice(name="nothing", value="nothing")])
    async def remove(interaction: discord.Interaction[Any], voice: str) -> None:
        await interaction.response.send_message(voice)

    payload = await remove.get_translated_payload(stage.bot.tree, CommandTranslator())
    (option,) = payload["options"]
    for item in (payload, option, option["choices"][0]):
        assert not item.get("name_localizations")
        assert not item.get("description_localizations")


class Marked(gettext.NullTranslations):
    """A language whose texts are those in English, in brackets."""

    def gettext(self, message: str) -> str:
        return f"⟦{message}⟧"

    def ngettext(self, msgid1: str, msgid2: str, n: int) -> str:
        return f"⟦{msgid1 if n == 1 else msgid2}⟧"

    def pgettext(self, context: str, message: str) -> str:
        return message if context == "number" else f"⟦{message}⟧"


MARKED = Language("marked", Marked())


def shown_texts(message: ResponseMessage) -> Iterator[str]:
    """Yield what a message shows, without verse."""
    yield message.content
    for embed in message.embeds:
        yield from (embed.author.name or "", embed.footer.text or "")
        if not embed.author.name:  # else these are a prompt and a reply
            yield from (embed.title or "", embed.description or "")
        for field in embed.fields:
            yield from (field.name or "", field.value or "")
    for row in message.components:
        for item in row["components"]:
            yield from (item.get("label") or "", item.get("placeholder") or "")
            for option in item.get("options") or ():
                yield from (option["label"], option.get("description") or "")


def form_texts(value: Any) -> Iterator[str]:
    """Yield what a form shows."""
    if isinstance(value, list):
        for item in value:
            yield from form_texts(item)
    elif isinstance(value, dict):
        for key, item in value.items():
            if key in {"title", "label", "description", "placeholder"} and isinstance(item, str):
                yield item
            else:
                yield from form_texts(item)


def unmarked(text: str) -> list[str]:
    """Return the words of a text outside of the brackets, without mentions and names of files."""
    before = ""
    while text != before:
        before, text = text, re.sub(r"⟦[^⟦⟧]*⟧", "", text)
    return re.findall(
        r"[A-Za-z]{2,}", re.sub(r"<[^>]*>|`[^`]*`|```.*?```", "", text, flags=re.DOTALL)
    )


NAMES = {"ann", "ben", "The", "Globe", "ROMEO", "noskgpt", "train", "marlowe", "MB", "UTC"}
"""What is shown as people or machines have named it."""


async def test_every_text_is_marked(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, locales: dict[int, str]
) -> None:
    locales.clear()
    monkeypatch.setattr(localisation, "language", lambda _locale: MARKED)
    stage.bot.owner_ids = {stage.ann.id}
    texts: list[str] = []
    ann, garden = stage.ann, stage.garden

    def note(result: InteractionResult) -> ResponseMessage | None:
        for message in (result.response, *result.followups):
            if message is not None:
                texts.extend(shown_texts(message))
        if result.modal is not None:
            texts.extend(form_texts(result.modal))
        return result.response

    async def run(command: str, **options: object) -> ResponseMessage | None:
        return note(await ann.slash(garden, command, **options))

    await run("scene continue")
    await run("scene show")
    await run("schedule list")
    await run("scene parts")
    await run("train status")
    await run("train voices")
    reply = await run("bard", prompt="ROMEO: 😀", max_chars=20)
    assert reply is not None
    for label in (REROLL, CONTINUE):
        note(await ann.click(reply, label=MARKED(label)))
        texts.extend(shown_texts(reply))
    note(await ann.click(reply, label="⟦Edit prompt⟧"))
    for page in ("scene show", "bard-about", "train history", "bard-admin servers"):
        await run(page)
    await run("scene join", **{"as": "ROMEO"})
    await run("scene parts")
    await run("scene leave")
    await run("scene thread")
    await run("scene forget", what="my words, everywhere")
    await run("scene fresh")
    await run("bard-admin block", user=stage.ben)
    await run("bard-admin unblock", user=stage.ben)
    await run("schedule daily", time="20:30", channel=garden, prompt="ROMEO:", timezone="UTC")
    await run("schedule list")
    await run("schedule remove", number=1)
    run_ = await finished_run(stage, 2)
    await run("train status")
    await run("train history")
    await run("train promote", run=run_.id)
    await run("train rollback")
    await run("train promote", run=run_.id, **{"as": "marlowe"})
    await run("train voices")
    await run("train voices", remove="marlowe")
    settings = await run("bard-settings")
    assert settings is not None
    for custom_id in ("limits", "page:roles", "page:main", "page:voices"):
        note(await ann.click(settings, custom_id=f"bard:settings:{custom_id}"))
        texts.extend(shown_texts(settings))
    assert len(texts) > 200
    assert [text for text in texts if set(unmarked(text)) - NAMES] == []


def test_marked_language_has_plurals() -> None:
    assert MARKED.plural(Plural("{count} one", "{count} many"), 2) == "⟦2 many⟧"
