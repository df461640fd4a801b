"""Voices on real weights: which one speaks, what stays in memory, and files that are kept."""

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

import noskgpt
from bot.config import Settings
from bot.core.promotions import weights_path
from bot.core.request_queue import RequestQueue
from bot.core.scenes import Scenes
from bot.core.settlement import MessageRef, Shown
from bot.core.voice_promotions import VoicePromotions
from bot.core.voices import KEPT_MODELS, Voices
from bot.errors import Reason
from bot.storage.guild_settings import GuildSettingsStore
from bot.storage.records import DEFAULT_VOICE, Place, Turn, TurnRequest
from bot.storage.turns import TurnStore
from bot.storage.voices import VoiceStore
from noskgpt import archive
from noskgpt.checkpoint import save
from tests.bot.conftest import rejected
from tests.bot.core.conftest import ANN, TrainingServices, name_of, trained, truncate

GARDEN = Place(guild_id=1, channel_id=2)


class Message:
    """The message of each turn has the id of the turn plus 100."""

    message_id: int | None = None
    token: str | None = None

    def __init__(self) -> None:
        self.shown: list[Turn] = []

    async def show(self, turn: Turn, _dropped: str) -> Shown:
        self.shown.append(turn)
        return Shown(turn.id + 100, 0)


class Theatre:
    """The services of training and of voices, and scenes that are played with them."""

    def __init__(self, services: TrainingServices) -> None:
        database = services.runs._database
        self.services = services
        self.store = VoiceStore(database)
        self.voices = Voices(self.store, services.inference, services.folder)
        self.promotions = VoicePromotions(
            self.store, services.runs, services.promotions, services.threads, services.folder
        )
        self.turns = TurnStore(database)
        rules = GuildSettingsStore(database, Settings()).rules
        self.scenes = Scenes(self.turns, services.inference, rules, self.voices)
        self.message = Message()
        self.queue = RequestQueue(workers=1, waiting=9)
        self.loaded: list[str] = []
        """The names of the runs whose weights were loaded, in order."""
        self.loading = asyncio.Event()
        read = services.inference.read

        async def recording(path: Path | None = None) -> noskgpt.Generator:
            if path is not None:
                self.loaded.append(path.parent.name)
                self.loading.set()
            return await read(path)

        services.inference.read = recording  # type: ignore[method-assign]

    async def voice(self, name: str, seed: int) -> int:
        """Return the id of a new voice with weights of their own."""
        run = await self.services.finish_run(trained(seed))
        voice, _ = await self.promotions.promote(run.id, name)
        self.loaded.clear()
        self.loading.clear()
        return voice.id

    async def play(self, prompt: str | None = "ROMEO:", *, voice: int | None = None) -> Turn:
        request = TurnRequest(
            place=GARDEN, user_id=ANN, prompt=prompt, max_chars=9, temperature=0.8, voice=voice
        )
        with self.queue.admit(1, ANN, 1) as admitted:
            await self.scenes.play(request, self.message, admitted)
        return self.message.shown[-1]

    async def reroll(self, turn: Turn) -> Turn:
        ref = MessageRef(turn.id, turn.id + 100, 0, turn.reply)
        with self.queue.admit(1, ANN, 1) as admitted:
            await self.scenes.reroll(ref, self.message, admitted)
        return self.message.shown[-1]

    async def use(self, *voices: int) -> None:
        for voice in voices:
            async with self.voices.lend(voice, GARDEN):
                pass


@pytest.fixture
async def theatre(services: TrainingServices) -> Theatre:
    return Theatre(services)


async def test_scene_goes_on_in_its_voice_until_told_otherwise(theatre: Theatre) -> None:
    configured = theatre.services.active_weights
    assert (await theatre.play()).take.weights == configured
    assert theatre.loaded == []
    kit = await theatre.voice("Kit", 2)
    turn = await theatre.play(voice=kit)
    assert (turn.take.weights, turn.take.voice) == (name_of(trained(2)), kit)
    assert (await theatre.play(None)).take == (await theatre.turns.find(turn.id + 1)).take  # type: ignore[union-attr]
    assert theatre.message.shown[-1].take.voice_name == "Kit"
    assert (await theatre.play(voice=DEFAULT_VOICE)).take.weights == configured
    assert (await theatre.play(None)).take.voice == DEFAULT_VOICE
    again = await theatre.reroll(turn)
    assert (again.number, again.take.weights) == (2, name_of(trained(2)))
    assert theatre.loaded == ["1"]


async def test_new_scene_begins_in_the_voice_of_its_place(theatre: Theatre) -> None:
    kit = await theatre.voice("Kit", 2)
    await theatre.play()
    await theatre.store.set_default(1, kit)
    assert (await theatre.play()).take.voice == DEFAULT_VOICE  # the scene had begun before
    await theatre.scenes.end(GARDEN)
    assert (await theatre.play()).take.voice == kit


async def test_removed_voice_is_replaced_and_named(theatre: Theatre) -> None:
    kit, ben = await theatre.voice("Kit", 2), await theatre.voice("Ben", 3)
    turn = await theatre.play(voice=kit)
    assert turn.take.instead_of == ""
    await theatre.promotions.remove(kit)
    after = await theatre.play(None)
    assert (after.take.voice, after.take.instead_of) == (DEFAULT_VOICE, "Kit")
    assert (await theatre.play(None)).take.instead_of == ""  # the scene has another voice now
    await theatre.store.set_default(1, ben)
    again = await theatre.reroll(turn)
    assert (again.take.voice, again.take.instead_of) == (ben, "Kit")
    with rejected(Reason.VOICE_REMOVED_ALREADY):
        await theatre.promotions.remove(kit)


async def test_damaged_voice_is_rejected_and_the_default_one_keeps_speaking(
    theatre: Theatre,
) -> None:
    kit = await theatre.voice("Kit", 2)
    configured = theatre.services.active_weights
    await truncate(weights_path(theatre.services.folder, 1))
    await theatre.store.set_default(1, kit)
    begun = await theatre.play()
    assert (begun.take.weights, begun.take.instead_of) == (configured, "Kit")
    with rejected(Reason.VOICE_DAMAGED, name="Kit"):
        await theatre.play(voice=kit)
    save(trained(9), weights_path(theatre.services.folder, 1))  # the weights of somebody else
    with rejected(Reason.VOICE_DAMAGED, name="Kit"):
        await theatre.play(voice=kit)
    assert (await theatre.play()).take.weights == configured
    save(trained(2), weights_path(theatre.services.folder, 1))
    assert (await theatre.play(voice=kit)).take.weights == name_of(trained(2))


async def test_voice_that_cannot_be_read_for_a_while_is_not_called_damaged(
    theatre: Theatre, monkeypatch: pytest.MonkeyPatch
) -> None:
    kit = await theatre.voice("Kit", 2)

    def fail(*_args: object) -> None:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(archive, "read", fail)
        with rejected(Reason.VOICE_UNREADABLE, name="Kit"):
            await theatre.play(voice=kit)
    assert (await theatre.play(voice=kit)).take.weights == name_of(trained(2))


async def test_requests_at_once_load_a_voice_once(theatre: Theatre) -> None:
    kit = await theatre.voice("Kit", 2)
    await asyncio.gather(*(theatre.use(kit) for _ in range(5)))
    assert theatre.loaded == ["1"]


async def test_stopped_request_leaves_the_loading_to_the_next(theatre: Theatre) -> None:
    kit = await theatre.voice("Kit", 2)
    first, second = (asyncio.create_task(theatre.use(kit)) for _ in range(2))
    await theatre.loading.wait()
    first.cancel()
    await second
    assert first.cancelled()
    await theatre.use(kit)
    assert theatre.loaded == ["1", "1"]


async def test_voices_used_least_recently_leave_memory_unless_they_speak(
    theatre: Theatre,
) -> None:
    voices = [await theatre.voice(f"voice {n}", n) for n in range(2, 4 + KEPT_MODELS)]
    first, *others = voices
    await theatre.use(*voices[:KEPT_MODELS])
    await theatre.use(first)  # so that the second one was used least recently
    await theatre.use(voices[KEPT_MODELS])
    theatre.loaded.clear()
    await theatre.use(first)
    assert theatre.loaded == []
    await theatre.use(others[0])
    assert theatre.loaded == ["2"]

    async with AsyncExitStack() as speaking:
        for voice in voices:
            await speaking.enter_async_context(theatre.voices.lend(voice, GARDEN))
        theatre.loaded.clear()
        await theatre.use(*voices)
        assert theatre.loaded == []  # none that speaks is loaded a second time
    assert len(theatre.voices._models) == KEPT_MODELS


async def test_active_weights_are_not_loaded_again_for_a_voice(theatre: Theatre) -> None:
    kit = await theatre.voice("Kit", 2)
    await theatre.services.promotions.promote(1, ANN)
    theatre.loaded.clear()
    assert (await theatre.play(voice=kit)).take.voice_name == "Kit"
    await theatre.services.promotions.roll_back(ANN)
    assert (await theatre.play(None)).take.weights == name_of(trained(2))
    assert theatre.loaded == ["1"]


async def test_voice_reads_the_scene_in_its_own_alphabet(theatre: Theatre) -> None:
    run = await theatre.services.finish_run(trained(2, vocabulary="\n abcdefghijklmnopqrstuvwxyz"))
    await theatre.promotions.promote(run.id, "whisper")
    await theatre.play("ROMEO: O, she doth teach.")
    turn = await theatre.play("Ay!", voice=theatre.voices.named("Whisper"))
    assert turn.reply == turn.reply.lower()
    assert theatre.services.active_weights != turn.take.weights


async def test_files_of_voices_are_kept_until_the_voice_is_removed(theatre: Theatre) -> None:
    services = theatre.services
    kit = await theatre.voice("Kit", 2)
    services.training._folders._keep = 0
    await services.finish_run(trained(3))
    with rejected(Reason.RUN_IN_USE, run_id=1):
        await services.training.discard(1)
    await services.training._delete_old_files()
    assert [path.name for path in services.folder.iterdir()] == ["1"]
    assert await theatre.promotions.sizes() == {
        kit: weights_path(services.folder, 1).stat().st_size
    }
    await theatre.promotions.remove(kit)
    await services.training._delete_old_files()
    assert list(services.folder.iterdir()) == []


async def test_decisions_that_make_no_sense_are_rejected(theatre: Theatre) -> None:
    await theatre.voice("Kit", 2)
    await theatre.voice("Ben", 3)
    decide = theatre.promotions
    with rejected(Reason.VOICE_PROMOTED_ALREADY, name="Kit", run_id=1):
        await decide.promote(1, "KIT")
    with rejected(Reason.VOICE_NAME):
        await decide.promote(1, "default")
    with rejected(Reason.UNKNOWN_RUN, run_id=9):
        await decide.promote(9, "Kit")
    with rejected(Reason.VOICE_NAME_TAKEN, name="Ben"):
        await decide.rename("kit", "BEN")
    with rejected(Reason.UNKNOWN_VOICE, name="Anne", known=["Ben", "Kit"]):
        await decide.rename("Anne", "Will")
    await truncate(weights_path(theatre.services.folder, 2))
    with rejected(Reason.RUN_DAMAGED, run_id=2):
        await decide.promote(2, "Kit")
    before, after = await decide.rename("kit", "kIT")
    assert (before.name, after.name, after.id) == ("Kit", "kIT", before.id)
    assert [(voice.name, voice.run_id) for voice in theatre.store.listed()] == [
        ("Ben", 2),
        ("kIT", 1),
    ]
