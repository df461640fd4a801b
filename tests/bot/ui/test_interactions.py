"""Acknowledgements and responses whose answers from Discord are lost, late or refused."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any, cast
from unittest.mock import AsyncMock, Mock

import aiohttp
import discord
import pytest

from bot.bard import Bard
from bot.concurrency import plain_wait
from bot.config import Settings
from bot.core.admission import Deliveries
from bot.errors import Reason, RejectedError, UncertainError
from bot.languages import KnownLocales
from bot.observation import NO_OBSERVER
from bot.ui import interactions
from bot.ui.interactions import (
    acknowledge,
    acknowledge_press,
    brief,
    edit_response,
    handle,
    look_first,
    place_of,
    repeat,
    respond,
    respond_to_error,
)
from bot.ui.responses import DISCORD_DOWN, MESSAGE_GONE, REJECTIONS
from tests.bot.ui.test_responses import discord_error

ALREADY = discord_error(400, 40060)
DROPPED = aiohttp.ServerDisconnectedError()
SERVER_ERROR = discord_error(502, text="<html>" + "x" * 3000)


def an_interaction(bard: Bard | None = None) -> Any:
    """Return an interaction that is not acknowledged yet; Discord does all it is asked to."""
    interaction = Mock(spec=discord.Interaction)
    interaction.locale = discord.Locale.british_english
    interaction.id, interaction.guild_id, interaction.channel_id = 1, 2, 3
    interaction.user.id = 4
    interaction.extras = {}
    interaction.response.defer = AsyncMock(
        return_value=SimpleNamespace(message_id=5, is_ephemeral=lambda: False)
    )
    interaction.response.send_message = AsyncMock()
    interaction.response.is_done = Mock(return_value=False)
    interaction.followup.send = AsyncMock()
    interaction.original_response = AsyncMock(
        return_value=SimpleNamespace(id=5, flags=discord.MessageFlags())
    )
    interaction.edit_original_response = AsyncMock()
    interaction.delete_original_response = AsyncMock()
    interaction.client.get_cog = Mock(return_value=bard and SimpleNamespace(bard=bard))
    return interaction


@pytest.fixture
def bard() -> Bard:
    bard = Mock(spec=Bard)
    bard.settings = Settings()
    bard.observer = NO_OBSERVER
    bard.closing = False
    bard.deliveries = Deliveries()
    bard.locales = KnownLocales()
    return cast("Bard", bard)


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interactions, "PAUSES", (0.0, 0.0))


@pytest.mark.parametrize("lost", [[ALREADY], [DROPPED, ALREADY], [DROPPED, None]])
async def test_acknowledgement_whose_answer_is_lost_counts(lost: list[Exception | None]) -> None:
    interaction = an_interaction()
    given = SimpleNamespace(message_id=5, is_ephemeral=lambda: False)
    interaction.response.defer.side_effect = [error or given for error in lost]
    acknowledgement = await acknowledge(interaction)
    assert acknowledgement.placeholder
    assert interaction.response.defer.await_count == len(lost)


async def test_lost_answer_to_an_acknowledgement_is_asked_for_again() -> None:
    interaction = an_interaction()
    interaction.response.defer.side_effect = ALREADY
    interaction.original_response.return_value = SimpleNamespace(
        id=5, flags=discord.MessageFlags(ephemeral=True)
    )
    acknowledgement = await acknowledge(interaction)
    assert (acknowledgement.message_id, acknowledgement.private) == (5, True)
    for failure in (DROPPED, discord.ClientException("unknown channel"), SERVER_ERROR):
        interaction.original_response.side_effect = failure
        acknowledgement = await acknowledge(interaction)
        assert acknowledgement.message_id is None
        assert acknowledgement.placeholder


async def test_acknowledgement_that_is_too_late_is_an_error() -> None:
    interaction = an_interaction()
    interaction.response.defer.side_effect = discord_error(404, 10062)
    with pytest.raises(discord.NotFound):
        await acknowledge(interaction)


async def test_discord_may_make_a_response_private() -> None:
    interaction = an_interaction()
    interaction.response.defer.return_value.is_ephemeral = lambda: True
    acknowledgement = await acknowledge(interaction)
    assert acknowledgement.private
    assert place_of(interaction, private=acknowledgement.private).audience == 4
    await respond(interaction, "Only for you")
    assert interaction.edit_original_response.await_args.kwargs["content"] == "Only for you"
    interaction.followup.send.assert_not_awaited()


async def test_response_after_a_public_acknowledgement_is_private() -> None:
    interaction = an_interaction()
    await acknowledge(interaction)
    await respond(interaction, "Only for you")
    interaction.delete_original_response.assert_awaited_once()
    assert interaction.followup.send.await_args.kwargs["ephemeral"]
    await respond(interaction, "And this")
    interaction.delete_original_response.assert_awaited_once()


@pytest.mark.parametrize("change", ["edit_original_response", "delete_original_response"])
@pytest.mark.parametrize("error", [DROPPED, SERVER_ERROR], ids=["dropped", "502"])
async def test_placeholder_that_cannot_be_removed_hides_no_response(
    change: str, error: Exception
) -> None:
    interaction = an_interaction()
    await acknowledge(interaction)
    getattr(interaction, change).side_effect = error
    await respond(interaction, "Only for you")
    assert interaction.followup.send.await_args.kwargs["ephemeral"]


async def test_response_is_not_shown_to_all_in_the_place_of_a_placeholder() -> None:
    interaction = an_interaction()
    await acknowledge(interaction)
    interaction.edit_original_response.side_effect = DROPPED
    interaction.delete_original_response.side_effect = SERVER_ERROR
    await respond_to_error(interaction, RejectedError(Reason.NO_SCENE))
    interaction.followup.send.assert_not_awaited()


async def test_reply_stays_when_a_further_response_is_private() -> None:
    interaction = an_interaction()
    await acknowledge(interaction)
    await edit_response(interaction, content="The reply")
    await respond(interaction, "Only for you")
    interaction.delete_original_response.assert_not_awaited()
    assert interaction.followup.send.await_args.kwargs["ephemeral"]


async def test_response_to_a_press_leaves_its_message_alone() -> None:
    interaction = an_interaction()
    await acknowledge_press(interaction)
    await respond(interaction, "Only for you")
    interaction.delete_original_response.assert_not_awaited()
    interaction.edit_original_response.assert_not_awaited()
    assert interaction.followup.send.await_args.kwargs["ephemeral"]


async def test_response_whose_answer_is_lost_is_not_repeated() -> None:
    interaction = an_interaction()
    interaction.response.send_message.side_effect = ALREADY
    await respond(interaction, "Only for you")
    interaction.followup.send.assert_not_awaited()


async def test_response_is_sent_again_after_a_dropped_connection() -> None:
    for answer in (None, ALREADY):
        interaction = an_interaction()
        interaction.response.send_message.side_effect = [DROPPED, answer]
        await respond(interaction, "Only for you")
        assert interaction.response.send_message.await_count == 2
        interaction.followup.send.assert_not_awaited()


async def test_response_to_an_interaction_that_the_host_acknowledged() -> None:
    interaction = an_interaction()
    interaction.response.is_done.return_value = True
    await respond(interaction, "Only for you")
    interaction.response.send_message.assert_not_awaited()
    assert interaction.followup.send.await_args.kwargs["ephemeral"]


async def test_interaction_that_is_delivered_again_is_ignored(bard: Bard) -> None:
    work = AsyncMock()
    for _ in range(2):
        assert await handle(an_interaction(bard), work)
    work.assert_awaited_once_with(bard)


async def test_interactions_during_a_shutdown_are_rejected(bard: Bard) -> None:
    bard.closing = True
    work = AsyncMock()
    for services in (bard, None):
        interaction = an_interaction(services)
        assert not await handle(interaction, work)
        (text,) = interaction.response.send_message.await_args.args
        assert text == REJECTIONS[Reason.CLOSING]
    work.assert_not_awaited()


@pytest.mark.parametrize("lost", [None, DROPPED, SERVER_ERROR])
async def test_shutdown_leaves_a_reply_alone_whose_answer_is_outstanding(
    bard: Bard, lost: Exception | None
) -> None:
    interaction, waiting = an_interaction(bard), asyncio.Event()
    outcomes = [lost, "no answer"] if lost else ["no answer"]

    async def edit(**_options: object) -> None:
        match outcomes.pop(0) if outcomes else None:
            case Exception() as error:
                raise error
            case "no answer":
                waiting.set()
                await asyncio.Event().wait()

    async def work(_bard: Bard) -> None:
        await acknowledge(interaction)
        await repeat(lambda: edit_response(interaction, content="The reply"), plain_wait)

    interaction.edit_original_response = edit
    task = asyncio.create_task(handle(interaction, work))
    await waiting.wait()
    task.cancel()
    await asyncio.wait({task})
    interaction.delete_original_response.assert_not_awaited()
    interaction.followup.send.assert_not_awaited()


async def test_shutdown_before_the_reply_is_told(bard: Bard) -> None:
    interaction = an_interaction(bard)

    async def work(_bard: Bard) -> None:
        await acknowledge(interaction)
        await asyncio.Event().wait()

    task = asyncio.create_task(handle(interaction, work))
    while await asyncio.sleep(0, "noskgpt_bard" not in interaction.extras):
        pass
    task.cancel()
    await asyncio.wait({task})
    (text,) = interaction.followup.send.await_args.args
    assert text == REJECTIONS[Reason.CLOSING]


def failing(*errors: Exception) -> Callable[[], Awaitable[str]]:
    return AsyncMock(side_effect=[*errors, "done"])


@pytest.mark.parametrize("errors", [[], [SERVER_ERROR], [DROPPED, SERVER_ERROR], [OSError()]])
async def test_request_is_repeated_until_its_outcome_is_known(errors: list[Exception]) -> None:
    assert await repeat(failing(*errors), plain_wait) == "done"


async def test_outcome_may_stay_unknown() -> None:
    with pytest.raises(UncertainError):
        await repeat(failing(*[DROPPED] * 3), plain_wait)


async def test_refusal_does_not_undo_an_earlier_attempt_without_an_answer() -> None:
    for refusal in (discord_error(403, 50013), discord_error(401, 50027)):
        with pytest.raises(UncertainError):
            await repeat(failing(DROPPED, refusal), plain_wait)
    with pytest.raises(discord.NotFound):  # the message is gone, whatever it has shown
        await repeat(failing(DROPPED, discord_error(404, 10008)), plain_wait)


async def test_refused_request_is_not_repeated() -> None:
    request = failing(discord_error(403, 50013))
    with pytest.raises(discord.Forbidden):
        await repeat(request, plain_wait)
    assert cast("AsyncMock", request).await_count == 1


async def test_requester_is_told_that_the_message_is_gone() -> None:
    interaction = an_interaction()
    await acknowledge(interaction)
    gone = discord_error(404, 10008)
    interaction.edit_original_response.side_effect = gone
    interaction.delete_original_response.side_effect = gone
    await respond_to_error(interaction, gone)
    (text,) = interaction.followup.send.await_args.args
    assert text.startswith(MESSAGE_GONE)


async def test_no_apology_beside_a_reply_that_may_stand(caplog: pytest.LogCaptureFixture) -> None:
    interaction = an_interaction()
    await acknowledge(interaction)
    await respond_to_error(interaction, UncertainError())
    interaction.delete_original_response.assert_not_awaited()
    interaction.followup.send.assert_not_awaited()
    assert "not known" in caplog.text


async def test_page_of_html_is_logged_on_one_short_line(caplog: pytest.LogCaptureFixture) -> None:
    interaction = an_interaction()
    await respond_to_error(interaction, SERVER_ERROR)
    (text,) = interaction.response.send_message.await_args.args
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert len(record.getMessage()) < 400
    assert not record.exc_info
    assert text.startswith(DISCORD_DOWN)
    assert text.split("`")[1] in record.getMessage()
    assert "html" not in text


async def test_rejection_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    interaction = an_interaction()
    await respond_to_error(interaction, RejectedError(Reason.NO_SCENE))
    (text,) = interaction.response.send_message.await_args.args
    assert text == REJECTIONS[Reason.NO_SCENE]
    assert not caplog.records


async def test_unexpected_error_is_logged_with_the_id_of_its_response(
    caplog: pytest.LogCaptureFixture,
) -> None:
    interaction = an_interaction()
    error = ZeroDivisionError("a cause")
    await respond_to_error(interaction, error)
    (text,) = interaction.response.send_message.await_args.args
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert record.exc_info is not None
    assert record.exc_info[1] is error
    assert text.split("`")[1] in record.getMessage()
    assert "a cause" not in text


async def test_response_that_cannot_be_sent_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    interaction = an_interaction()
    interaction.response.send_message.side_effect = DROPPED
    await respond_to_error(interaction, RejectedError(Reason.NO_SCENE))
    assert "Could not respond" in caplog.text


async def test_slow_check_does_not_delay_the_acknowledgement(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(interactions, "CHECK_SECONDS", 0.0)
    await look_first(asyncio.Event().wait())


async def test_channel_without_an_id_gets_a_scene_of_its_own() -> None:
    first, second = an_interaction(), an_interaction()
    first.channel_id = second.channel_id = None
    second.id = 2
    assert place_of(first) != place_of(second)


def test_brief_text_of_an_error_without_one() -> None:
    assert brief(TimeoutError()) == "TimeoutError"
