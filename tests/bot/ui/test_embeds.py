"""The embeds of any turn keep Discord's limits and show its text unchanged."""

import string
from dataclasses import replace

import discord
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bot.core import transcript
from bot.core.scenes import PAGE_CHARS, PAGE_TURNS
from bot.languages import ENGLISH
from bot.storage.records import Page, Place, Take, Turn
from bot.ui import embeds as rendering
from noskgpt.tokenizer import VOCABULARY

LINES = st.lists(
    st.one_of(
        st.sampled_from(["ROMEO:", "First Citizen:", "", "- item", "# head", "> quote", "1. one"]),
        st.text(VOCABULARY.replace("\n", ""), max_size=80),
        st.text(string.punctuation + "ab \t", max_size=40),
    ),
    max_size=60,
)
REPLIES = st.one_of(
    LINES.map("\n".join),
    st.text(max_size=300),
    st.builds(
        lambda piece, n: piece * n, st.text(VOCABULARY + "`*_", min_size=1), st.integers(1, 4000)
    ),
).map(lambda text: text[:4000])


NAME = f"{'*' * 79}\N{HORIZONTAL ELLIPSIS}"
"""A name of 99 asterisks as it is shown."""
GRAVE = "\N{MODIFIER LETTER GRAVE ACCENT}"


def turn(reply: str, prompt: str | None = "ROMEO:") -> Turn:
    return Turn(
        id=1,
        place=Place(guild_id=1, channel_id=1),
        user_id=1,
        scene=1,
        prompt=prompt,
        max_chars=4000,
        temperature=0.8,
        message_id=1,
        shown=1,
        intent=None,
        token=None,
        number=1,
        take=Take(reply=reply, seed=1, weights="noskgpt-12345678", seconds=1.25),
        takes=1,
    )


def plain(markdown: str) -> str:
    """Return Markdown as Discord shows it: without escapes and bold marks."""
    seen, rest = [], markdown
    while rest:
        if rest[0] == "\\" and rest[1:2] in set(string.punctuation):
            seen.append(rest[1])
            rest = rest[2:]
        elif rest.startswith("**"):
            rest = rest[2:]
        else:
            seen.append(rest[0])
            rest = rest[1:]
    return "".join(seen)


def check_limits(embeds: list[discord.Embed]) -> None:
    assert 1 <= len(embeds) <= 2
    assert sum(map(len, embeds)) <= 6000
    for embed in embeds:
        assert 1 <= len(embed.description or "") <= 4096
        assert len(embed.title or "") <= 256
        assert len(embed.author.name or "") <= 256
        assert len(embed.footer.text or "") <= 2048
        assert all(1 <= len(field.value or "") <= 1024 for field in embed.fields)


@given(reply=REPLIES, prompt=st.one_of(st.none(), st.text(max_size=1000)), dropped=st.text())
def test_limits_and_no_text_lost(reply: str, prompt: str | None, dropped: str) -> None:
    embeds = rendering.embeds(
        turn(reply, prompt), ENGLISH, author="ann asks the bard", dropped=dropped
    )
    check_limits(embeds)
    shown = "".join(embed.description or "" for embed in embeds)
    if not reply.strip():
        assert shown == "*(silence)*"
        assert rendering.reply_text(embeds) == ""
    elif shown.startswith("```\n"):
        assert shown.replace("```\n", "").replace("```", "") == reply.replace("`", GRAVE)
        assert rendering.reply_text(embeds) == reply.replace("`", GRAVE)
    else:
        assert plain(shown) == rendering.reply_text(embeds) == reply


@given(reply=REPLIES, words=st.text(max_size=1000))
@example(reply="", words="*" * 1000)
@example(reply="`*" * 2000, words="`_" * 500)
def test_speech_of_a_part_is_shown_within_the_limits(reply: str, words: str) -> None:
    speech = turn(reply, transcript.speech("FIRST CITIZEN", words))
    cue = rendering.Cue("x" * 60, "y" * 300)
    embeds = rendering.embeds(
        speech, ENGLISH, author=rendering.headline(speech, "*" * 99, ENGLISH), cue=cue
    )
    if reply.strip():
        check_limits(embeds)
    else:
        assert [embed.description for embed in embeds] == [None]
    assert (embeds[0].title, embeds[-1].fields[-1].name) == (None, cue.name)
    assert embeds[0].author.name == f"{NAME} speaks as FIRST CITIZEN"
    line = rendering.line_text(speech)
    assert line is not None
    assert len(line) <= 2000
    if len(line) < 1999:
        assert plain(line) == f"FIRST CITIZEN:\n{words.strip()}"
    page = Page(scene=1, turns=[speech], has_earlier=True, has_later=False)
    shown = rendering.scene_page(page, {1: "*" * 100}, ENGLISH)
    assert sum(map(len, shown)) <= 6000
    assert rendering.reply_text(shown).startswith("FIRST CITIZEN:\n")


@given(reply=REPLIES)
@example(reply="Sweet lady, " * 500)
def test_reply_is_recognised_although_discord_strips_the_text_of_embeds(reply: str) -> None:
    embeds = rendering.embeds(turn(reply), ENGLISH, author="ann asks the bard")
    for embed in embeds:
        embed.description = (embed.description or "").strip()
    assert transcript.shows_same(rendering.reply_text(embeds), reply)
    assert not transcript.shows_same(rendering.reply_text(embeds), reply + "Exit.")


@given(replies=st.lists(REPLIES, min_size=2, max_size=PAGE_TURNS), prompt=st.text(max_size=1000))
def test_scene_page_keeps_the_limits(replies: list[str], prompt: str) -> None:
    share = PAGE_CHARS // len(replies)
    turns = [turn(reply[: share - len(prompt)], prompt) for reply in replies if len(prompt) < share]
    page = Page(scene=1, turns=turns, has_earlier=True, has_later=False)
    embeds = rendering.scene_page(page, {1: "*" * 100}, ENGLISH)
    assert len(embeds) == len(turns)
    check_page(embeds)


def test_longest_scene_page() -> None:
    speech = turn(("A:\n" * PAGE_CHARS)[: PAGE_CHARS // PAGE_TURNS - 40], "*" * 40)
    page = Page(scene=1, turns=[speech] * PAGE_TURNS, has_earlier=True, has_later=False)
    check_page(rendering.scene_page(page, {1: "*" * 100}, ENGLISH))


def check_page(embeds: list[discord.Embed]) -> None:
    assert sum(map(len, embeds)) <= 6000
    assert len(embeds) <= 10
    assert all(1 <= len(embed.description or "") <= 4096 for embed in embeds)


@pytest.mark.parametrize(
    "piece", ["`", "*", "\\", "_|", "A:\n\n", "ab", "a\n", "**A:**\n\n", "- \n"]
)
def test_longest_reply_of_one_repeated_piece(piece: str) -> None:
    reply = (piece * 4000)[:4000]
    embeds = rendering.embeds(turn(reply, "*" * 1000), ENGLISH, author="`" * 96, dropped="😀" * 300)
    check_limits(embeds)


def test_only_speakers_are_bold() -> None:
    reply = "O, speak again.\nI say:\n\nFirst Citizen:\nBefore we\nMENENIUS:\nWhat?"
    (embed,) = rendering.embeds(turn(reply), ENGLISH, author="ann asks the bard")
    assert embed.description == (
        "O, speak again.\nI say:\n\n**First Citizen:**\nBefore we\n**MENENIUS:**\nWhat?"
    )


def test_reply_is_split_when_bold_marks_exceed_the_limit() -> None:
    reply = ("ROMEO:\nO, she doth teach the torches to burn bright.\n\n" * 100)[:4000]
    first, second = rendering.embeds(turn(reply), ENGLISH, author="ann asks the bard")
    assert first.title == "ROMEO:"
    assert first.author.name == "ann asks the bard"
    assert first.footer.text is None
    assert second.title is None
    assert second.footer.text == "4,000 characters · 1.25 s"
    assert (first.description or "").endswith("\n")
    assert plain((first.description or "") + (second.description or "")) == reply


@pytest.mark.parametrize(
    ("line", "escaped"),
    [
        ("# head", "\\# head"),
        ("  - item", "  \\- item"),
        ("well-a-day -- no", "well-a-day -- no"),
        ("> quote", "\\> quote"),
        ("12. twelve", "12\\. twelve"),
        ("1) one", "1\\) one"),
        ("12 angry men", "12 angry men"),
        ("*a* _b_ ~~c~~ ||d|| `e`", "\\*a\\* \\_b\\_ \\~\\~c\\~\\~ \\|\\|d\\|\\| \\`e\\`"),
        ("<@1> [a](http://b)", "\\<@1> \\[a\\](http\\://b)"),
        ("back\\slash", "back\\\\slash"),
        ("a :skull: at 10:30: so", "a \\:skull: at 10\\:30: so"),
    ],
)
def test_escape(line: str, escaped: str) -> None:
    assert rendering.escape(line) == escaped


def test_long_prompt_is_shortened() -> None:
    (embed,) = rendering.embeds(turn("x", "word " * 200), ENGLISH, author="ann asks the bard")
    assert embed.title is not None
    assert embed.title.endswith("word…")
    assert len(embed.title) <= 200


def test_invisible_prompt_has_a_title() -> None:
    (embed,) = rendering.embeds(turn("x", "\x00 \u202e"), ENGLISH, author="ann asks the bard")
    assert embed.title == "…"


def test_footer_has_the_take() -> None:
    taken = replace(turn("x"), number=2, takes=3)
    (embed,) = rendering.embeds(taken, ENGLISH, author="ann asks the bard")
    assert (embed.footer.text or "").startswith("Take 2 of 3 \u00b7 1 character \u00b7 ")


def test_footer_of_one_character() -> None:
    (embed,) = rendering.embeds(turn("x"), ENGLISH, author="ann asks the bard")
    assert embed.footer.text == "1 character · 1.25 s"
    assert not embed.fields


def test_left_out_characters_have_a_field_of_their_own_without_formatting() -> None:
    (embed,) = rendering.embeds(turn("x"), ENGLISH, author="ann asks the bard", dropped="😀*\n`")
    (field,) = embed.fields
    assert (field.name, field.value) == (rendering.LEFT_OUT, "😀\\* \\`")
    assert embed.footer.text == "1 character · 1.25 s"
    assert rendering.reply_text([embed]) == "x"


@given(st.lists(st.text("ab*", min_size=1, max_size=700), max_size=12))
def test_as_many_lines_as_fit_into_a_message(lines: list[str]) -> None:
    kept = rendering.first_lines(lines).split("\n") if lines else []
    assert kept == lines[: len(kept)]
    assert len("\n".join(kept)) <= rendering.CONTENT_LIMIT
    if len(kept) < len(lines):
        assert len("\n".join(lines[: len(kept) + 1])) > rendering.CONTENT_LIMIT
