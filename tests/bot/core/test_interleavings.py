"""Any interleaving of requests, presses, failures and restarts keeps what was shown.

The model of this test is the two channels as their members see them: their messages in order, and
the take that each of them shows.
"""

import asyncio
import random
import sqlite3
import tempfile
from contextlib import AsyncExitStack, ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from unittest.mock import patch

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bot.core.inference import Completion, Inference
from bot.core.request_queue import RequestQueue
from bot.core.scenes import Scenes
from bot.core.settlement import MessageRef, Shown, Sighting
from bot.core.voices import Voices
from bot.errors import RejectedError, StoppedError, UncertainError
from bot.storage import database as storage
from bot.storage.database import open_database
from bot.storage.guild_settings import Rules
from bot.storage.records import Place, Turn, TurnRequest
from bot.storage.turns import TurnStore
from bot.storage.voices import VoiceStore
from noskgpt import Generator

RULES = Rules(
    channels=frozenset(),
    max_chars=4000,
    cooldown=0,
    temperature=0.8,
    buttons="everyone",
    default_chars=400,
)
MEMBERS = (1, 2)
CHANNELS = (10, 20)

CONCURRENT = 0.6
"""Probability that a step is done together with the one before."""
FAULTS = ("none", "refused", "lost before", "lost after", "ended before", "ended after", "locked")
"""Outcomes of showing a turn: done; refused; unknown, or cancelled, without or with effect; not
recorded."""

ACTIONS = st.one_of(
    st.tuples(st.just("ask"), st.sampled_from(CHANNELS), st.sampled_from(FAULTS)),
    st.tuples(st.just("ask in private"), st.sampled_from(CHANNELS), st.sampled_from(FAULTS)),
    st.tuples(st.just("reroll"), st.integers(0, 5), st.sampled_from(FAULTS)),
    st.tuples(st.just("edit"), st.integers(0, 5), st.sampled_from(FAULTS)),
    st.tuples(st.just("select"), st.integers(0, 5), st.sampled_from(FAULTS)),
    st.tuples(st.just("delete"), st.integers(0, 5), st.sampled_from(("none", "locked"))),
    st.tuples(st.just("end"), st.sampled_from(CHANNELS), st.just("none")),
    st.tuples(st.just("forget channel"), st.sampled_from(CHANNELS), st.just("none")),
    st.tuples(st.just("forget member"), st.sampled_from(MEMBERS), st.just("none")),
    st.tuples(st.just("close or open"), st.sampled_from(CHANNELS), st.just("none")),
    st.tuples(st.just("look"), st.just(0), st.just("none")),
    st.tuples(st.just("restart"), st.just(0), st.just("none")),
)


@dataclass
class Message:
    """A message as people see it."""

    id: int
    place: Place
    requester: int
    turn_id: int = 0
    prompt: str | None = None
    reply: str = ""
    replies: list[str] = field(default_factory=list)
    forgotten: bool = False


class World:
    """Discord with two channels, and the bot's services on a real database."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "bard.sqlite3"
        self.messages: dict[int, Message] = {}
        self.ended: dict[tuple[int, int], int] = {}
        """The number of messages in a place when its scene ended."""
        self.closed: set[int] = set()
        """The channels whose messages the bot may not read."""
        self.contexts: list[str] = []
        self._count = 0
        self._stack = AsyncExitStack()

    async def start(self) -> None:
        """Open the services, as after a start of the process, and look at the messages."""
        database = await self._stack.enter_async_context(open_database(self.path))
        self.turns = TurnStore(database)
        inference = Inference(None, workers=1)
        inference.generate = self.generate  # type: ignore[method-assign]
        inference.fold = self.fold  # type: ignore[method-assign]
        voices = Voices(VoiceStore(database), inference, self.path.parent)
        self.scenes = Scenes(self.turns, inference, lambda _guild: RULES, voices)
        self.scenes.look = self.look
        self._stack.push_async_callback(inference.close)
        await self.turns.deletions.resume()
        await self.scenes.settle()

    async def stop(self) -> None:
        await self._stack.aclose()

    def fold(self, text: str, model: Generator | None = None) -> tuple[str, str]:
        assert model is None
        return text, ""

    async def generate(self, context: str, **_options: object) -> Completion:
        self.contexts.append(context)
        await asyncio.sleep(0)
        self._count += 1
        return Completion(text=f"\nWord{self._count}.", seconds=0.1, seed=1, weights="w")

    async def look(self, turn: Turn) -> Sighting | None:
        message = self.messages.get(turn.message_id or 0)
        if turn.place.audience:
            return None
        if turn.place.channel_id in self.closed:
            return Sighting(None, readable=False, closed=True)
        seen = Sighting(message.reply if message else None)
        await asyncio.sleep(0)
        return seen

    def new_id(self) -> int:
        self._count += 1
        return self._count

    def shown_in(self, place: Place) -> list[Message]:
        """Return the messages of a place's current scene that people still see."""
        start = self.ended.get((place.channel_id, place.audience), 0)
        return [
            message
            for message in self.messages.values()
            if message.place == place and message.id > start and not message.forgotten
        ]


class FaultyMessage:
    """A message that shows a turn, or does not, with a fault in between."""

    def __init__(self, world: World, message: Message, fault: str, faults: ExitStack) -> None:
        self.message_id: int | None = message.id
        self.token: str | None = None
        self._world = world
        self._message = message
        self._fault = fault
        self._faults = faults

    async def show(self, turn: Turn, _dropped: str) -> Shown:
        await asyncio.sleep(0)
        if self._fault == "refused":
            raise RuntimeError
        if self._fault == "lost before":
            raise UncertainError
        if self._fault == "ended before":
            raise asyncio.CancelledError
        self._message.turn_id, self._message.reply = turn.id, turn.reply
        self._message.prompt = turn.prompt
        self._message.replies.append(turn.reply)
        self._world.messages[self._message.id] = self._message
        if self._fault == "lost after":
            raise UncertainError
        if self._fault == "ended after":
            raise asyncio.CancelledError
        if self._fault == "locked":
            lock(self._world.path, self._faults)
        return Shown(self._message.id, self._message.place.audience)


def lock(path: Path, stack: ExitStack) -> None:
    """Hold the database as another process does, until the stack is closed."""
    other = stack.enter_context(closing(sqlite3.connect(path, isolation_level=None)))
    other.execute("BEGIN IMMEDIATE")


async def act(world: World, kind: str, target: int, fault: str) -> None:
    """Do what a member does, and let the fault happen."""
    member = MEMBERS[world.new_id() % 2]
    with ExitStack() as faults:
        try:
            match kind:
                case "ask" | "ask in private":
                    audience = member if kind == "ask in private" else 0
                    place = Place(guild_id=5, channel_id=target, audience=audience)
                    message = Message(world.new_id(), place, member)
                    with RequestQueue(1, 1).admit(1, member, 5) as request:
                        await world.scenes.play(
                            TurnRequest(place=place, user_id=member, prompt=f"Ask{message.id}"),
                            FaultyMessage(world, message, fault, faults),
                            request,
                        )
                case "reroll" | "edit" | "select" | "delete":
                    await press(world, kind, target, fault, faults)
                case "end":
                    place = Place(guild_id=5, channel_id=target)
                    await world.scenes.end(place)
                    world.ended[target, 0] = world.new_id()
                case "forget channel" | "forget member":
                    await forget(world, kind, target)
                case "close or open":
                    world.closed ^= {target}
                case "look":
                    await world.scenes.settle()
                case "restart":
                    await world.stop()
                    await world.start()
        except (
            RuntimeError,
            UncertainError,
            RejectedError,
            StoppedError,
            asyncio.CancelledError,
        ):
            pass  # a member is told, or finds the reply there


async def forget(world: World, kind: str, target: int) -> None:
    """Delete all turns of a channel or of a person."""
    if kind == "forget channel":
        await world.scenes.delete_channel(target)
    else:
        await world.turns.deletions.carry_out(await world.turns.deletions.record("user", target))
    for message in world.messages.values():
        owner = message.place.channel_id if kind == "forget channel" else message.requester
        message.forgotten |= owner == target


async def press(world: World, kind: str, index: int, fault: str, faults: ExitStack) -> None:
    """Press a button of one of the messages."""
    if not world.messages:
        return
    message = list(world.messages.values())[index % len(world.messages)]
    ref = MessageRef(message.turn_id, message.id, message.place.audience, message.reply)
    display = FaultyMessage(world, message, fault, faults)
    if kind in {"reroll", "edit"}:
        prompt = f"Edit{world.new_id()}" if kind == "edit" else None
        with RequestQueue(1, 1).admit(1, message.requester, 5) as request:
            await world.scenes.reroll(ref, display, request, prompt=prompt)
    elif kind == "select":
        await world.scenes.select_take(ref, 1 + index % 3, display)
    else:
        if fault == "locked":
            lock(world.path, faults)

        async def delete_message() -> None:
            world.messages.pop(message.id, None)  # it may be deleted twice

        await world.scenes.delete(ref, delete_message)


async def check(world: World) -> None:
    """Press a button of each message, and compare what is stored with what is shown."""
    places = {message.place for message in world.messages.values()}
    for message in list(world.messages.values()):
        ref = MessageRef(message.turn_id, message.id, message.place.audience, message.reply)
        try:
            turn = await world.scenes.find(ref)
        except RejectedError:
            assert message.forgotten, "a reply that is shown was forgotten"
        else:
            assert not message.forgotten
            assert (turn.prompt, turn.reply) == (message.prompt, message.reply)
            assert turn.place == message.place
            assert turn.takes >= len(set(message.replies))
    for place in places:
        shown = [message.reply.strip() for message in world.shown_in(place)]
        stored = await world.turns.tail(place, await world.turns.scene(place), chars=10**6)
        assert [turn.reply.strip() for turn in stored] == shown
        with RequestQueue(1, 1).admit(1, 3, 5) as request:
            display = FaultyMessage(world, Message(0, place, 3), "refused", ExitStack())
            with pytest.raises(RuntimeError):
                await world.scenes.play(
                    TurnRequest(place=place, user_id=3, prompt="Next"), display, request
                )
        words = [word for word in world.contexts[-1].split() if word.startswith("Word")]
        assert words == shown
        prompts = [word for word in world.contexts[-1].split() if word.startswith(("Ask", "Edit"))]
        assert prompts == [message.prompt for message in world.shown_in(place)]


def is_concurrent(step: tuple[str, int, str]) -> bool:
    """Return whether a step may be done together with others.

    After the other ones, this test could not tell which messages belong to the new scene.
    """
    kind, _, fault = step
    together = {"ask", "ask in private", "reroll", "edit", "select", "delete", "look"}
    return kind in together and fault != "locked"


async def run(steps: list[tuple[str, int, str]], seed: int) -> None:
    """Do some steps at once and others in sequence, then check."""
    order = random.Random(seed)  # noqa: S311 - of a test
    with (
        tempfile.TemporaryDirectory() as folder,
        patch.multiple("bot.core.settlement", CLOSED_SECONDS=0.0),
        patch.object(storage, "BUSY_SECONDS", 0.0),
    ):
        world = World(Path(folder))
        await world.start()
        try:
            while steps:
                batch = [steps.pop(0)]
                while steps and is_concurrent(batch[0]) and order.random() < CONCURRENT:
                    if not is_concurrent(steps[0]):
                        break
                    batch.append(steps.pop(0))
                await asyncio.gather(*(act(world, *step) for step in batch))
            await check(world)
        finally:
            await world.stop()


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(steps=st.lists(ACTIONS, max_size=14), seed=st.integers(0, 1000))
def test_what_is_stored_is_what_is_shown(steps: list[tuple[str, int, str]], seed: int) -> None:
    asyncio.run(run(steps, seed))
