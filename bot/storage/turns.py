"""Read and write the turns of every scene.

A turn is stored before its message shows it, with the take that the message is about to show: its
intent. The intent is settled once it is known whether the message shows it.
"""

import time
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Literal

from .continuations import Continuation, ContinuationStore
from .database import Database, Statements
from .deletions import DeletionStore, Watch
from .parts import PartStore
from .records import UNSETTLED, WITH_TAKE, Page, Place, Take, Turn, TurnRequest, turn_of

_ROWS_PER_READ = 50
"""Size of the pieces of long results; other statements run between pieces."""

_IN_PLACE = "channel_id = ? AND audience = ?"
_MAX_ID = 2**63 - 1


class TurnStore:
    """Read and write turns. Every write is committed when its call returns.

    Attributes:
        deletions: Deletes turns.
        continuations: The turns of other channels that scenes of threads go on from. They are read
            as if they were turns of the first scene of the thread.
        parts: The parts that people play.
    """

    def __init__(self, database: Database) -> None:
        self.deletions = DeletionStore(database)
        self.continuations = ContinuationStore(database)
        self.parts = PartStore(database)
        self._database = database

    async def scene(self, place: Place) -> int:
        """Return the number of the place's current scene; 0 if it has none.

        A turn that was never shown starts no scene.
        """
        rows = await self._database.fetch(
            f"SELECT scene FROM places WHERE {_IN_PLACE}",  # noqa: S608 - a constant
            (place.channel_id, place.audience),
        )
        return int(rows[0][0]) if rows else 0

    async def has_scene(self, channel_id: int) -> bool:
        """Return whether a scene that is played in a channel has had a turn, or may have had.

        That is a scene of everyone or of one person, and a turn that may have been shown counts.
        """
        rows = await self._database.fetch(
            "SELECT EXISTS (SELECT 1 FROM places WHERE channel_id = ? AND counted)"
            " OR EXISTS (SELECT 1 FROM turns WHERE channel_id = ? AND intent IS NOT NULL)"
            " OR EXISTS (SELECT 1 FROM continuations WHERE thread_id = ?)",
            (channel_id, channel_id, channel_id),
        )
        return bool(rows[0][0])

    async def next_scene(self, place: Place) -> int:
        """Return the number of a new scene: no turn has it, not even one of unknown outcome."""
        rows = await self._database.fetch(
            f"SELECT max(scene) FROM turns WHERE {_IN_PLACE}",  # noqa: S608 - a constant
            (place.channel_id, place.audience),
        )
        first = 1 if await self.continuations.of(place) else 0  # the first one has turns already
        return max(await self.scene(place), rows[0][0] or 0, first) + 1

    async def start_scene(self, place: Place) -> None:
        """Start a new scene in a place, before its first turn; a place without turns has none."""
        ids = (place.channel_id, place.audience)
        await self._database.run(
            "INSERT INTO places (channel_id, audience, guild_id, scene) SELECT ?, ?, ?, ?"  # noqa: S608
            f" WHERE EXISTS (SELECT 1 FROM turns WHERE {_IN_PLACE})"
            " ON CONFLICT DO UPDATE SET scene = excluded.scene, counted = 0",
            (*ids, place.guild_id, await self.next_scene(place), *ids),
        )

    async def tail(
        self, place: Place, scene: int, *, chars: int, before: int = _MAX_ID
    ) -> list[Turn]:
        """Return the last shown turns of a scene with ids below `before`, newest last.

        Stops at the turn with which prompts and replies reach `chars` characters.
        """
        turns: list[Turn] = []
        while chars > 0:
            chunk = await self._before(place, scene, turns[-1].id if turns else before)
            for turn in chunk:
                turns.append(turn)
                chars -= _length(turn)
                if chars <= 0:
                    break
            if len(chunk) < _ROWS_PER_READ:
                break
        return turns[::-1]

    async def find(self, turn_id: int) -> Turn | None:
        """Return a turn with its shown take, else with the intended one; None if deleted."""
        turns = await self._turns(
            f"{WITH_TAKE} = coalesce(turns.take, intent) WHERE id = ?", (turn_id,)
        )
        return turns[0] if turns else None

    async def intended(self, turn_id: int) -> Turn | None:
        """Return a turn with its intended take; None if it is deleted or settled."""
        turns = await self._turns(f"{WITH_TAKE} = intent WHERE id = ?", (turn_id,))
        return turns[0] if turns else None

    async def take(self, turn: Turn, number: int) -> Turn | None:
        """Return a turn with another of its takes; None if there is no such turn or take."""
        turns = await self._turns(f"{WITH_TAKE} = ? WHERE id = ?", (number, turn.id))
        return turns[0] if turns else None

    async def page(
        self,
        place: Place,
        scene: int,
        *,
        turns: int,
        chars: int,
        before: int = _MAX_ID,
        after: int | None = None,
    ) -> Page:
        """Return shown turns of a scene: the last ones before an id, or the first after one.

        Args:
            place: The place.
            scene: The scene.
            turns: Most turns of a page.
            chars: Most characters of a page with more than one turn.
            before: Ids of the turns are lower than this.
            after: Ids of the turns are higher than this, if given.
        """
        if after is None:
            found = await self._before(place, scene, before, turns + 1)
        else:
            found = await self._after(place, scene, after, turns + 1)
        size = 0
        for count, turn in enumerate(found):
            size += _length(turn)
            if count == turns or (count and size > chars):
                break
        else:
            count = len(found)
        more, kept = len(found) > count, found[:count]
        if after is not None:
            earlier = bool(await self._before(place, scene, kept[0].id, 1)) if kept else False
            return Page(scene=scene, turns=kept, has_earlier=earlier, has_later=more)
        later = bool(await self._after(place, scene, kept[0].id, 1)) if kept else False
        return Page(scene=scene, turns=kept[::-1], has_earlier=more, has_later=later)

    async def script(self, place: Place, scene: int) -> AsyncIterator[list[Turn]]:
        """Yield the shown turns of a scene in pieces, oldest first."""
        last = 0
        while piece := await self._after(place, scene, last):
            yield piece
            last = piece[-1].id

    async def prompts(self, place: Place) -> list[str]:
        """Return the distinct prompts among the place's last turns, newest first."""
        rows = await self._database.fetch(
            "SELECT coalesce(takes.prompt, turns.prompt), take FROM turns"  # noqa: S608 - a constant
            f" LEFT JOIN takes ON turn_id = id AND number = take WHERE {_IN_PLACE}"
            " ORDER BY scene DESC, id DESC LIMIT ?",
            (place.channel_id, place.audience, _ROWS_PER_READ),
        )
        return list(dict.fromkeys(prompt for prompt, take in rows if prompt and take))

    async def add(
        self,
        request: TurnRequest,
        take: Take,
        *,
        scene: int,
        max_chars: int,
        temperature: float,
        message_id: int | None,
        token: str | None = None,
        watch: Watch | None = None,
    ) -> Turn:
        """Store a turn whose message is about to show its first take, and return it.

        Args:
            request: The request.
            take: The reply.
            scene: The scene that the turn belongs to once it is shown.
            max_chars: The limit of the reply.
            temperature: The temperature of the reply.
            message_id: The message that will show it, if it is known already.
            token: The token of the interaction, through which the message can be looked at.
            watch: The watch since the request was accepted.

        Raises:
            StoppedError: A deletion that concerns the request was recorded since.
        """
        place, now = request.place, time.time()
        async with self._database.transaction() as statements:
            if watch is not None:
                watch.check()
            ((turn_id,),) = await statements.fetch(
                "INSERT INTO turns (guild_id, channel_id, audience, user_id, scene, prompt,"
                " max_chars, temperature, created_at, message_id, token, intent)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 1) RETURNING id",
                (
                    place.guild_id,
                    place.channel_id,
                    place.audience,
                    request.user_id,
                    scene,
                    request.prompt,
                    max_chars,
                    temperature,
                    now,
                    message_id,
                    token,
                ),
            )
            await _insert_take(statements, turn_id, 1, take, now, request.prompt)
            if place.parent_id is not None:
                await statements.run(
                    "INSERT OR IGNORE INTO threads (id, parent_id, guild_id) VALUES (?, ?, ?)",
                    (place.channel_id, place.parent_id, place.guild_id),
                )
        return Turn(
            id=turn_id,
            place=place,
            user_id=request.user_id,
            scene=scene,
            prompt=request.prompt,
            max_chars=max_chars,
            temperature=temperature,
            message_id=message_id,
            shown=None,
            intent=1,
            token=token,
            number=1,
            take=take,
            takes=1,
        )

    async def add_take(self, turn: Turn, take: Take, token: str | None = None) -> Turn | None:
        """Store another take, which the message is about to show; return the turn with it.

        The take was generated from the prompt that `turn` has, which may not be that of its others.

        Returns None if the turn was deleted meanwhile.
        """
        async with self._database.transaction() as statements:
            rows = await statements.fetch(
                "UPDATE turns SET token = ?,"
                " intent = (SELECT max(number) + 1 FROM takes WHERE turn_id = id)"
                " WHERE id = ? AND take IS NOT NULL RETURNING intent, take",
                (token, turn.id),
            )
            if not rows:
                return None
            ((number, shown),) = rows
            await _insert_take(statements, turn.id, number, take, time.time(), turn.prompt)
        return replace(
            turn, number=number, shown=shown, intent=number, token=token, take=take, takes=number
        )

    async def intend(self, turn: Turn, token: str | None = None) -> bool:
        """Record that the message is about to show this take; return False if deleted."""
        return bool(
            await self._database.run(
                "UPDATE turns SET intent = ?, token = ? WHERE id = ?", (turn.number, token, turn.id)
            )
        )

    async def show(self, turn: Turn, message_id: int, audience: int | None = None) -> None:
        """Record that a message shows this take, which makes it part of its scene.

        A turn that was deleted meanwhile stays deleted.

        Args:
            turn: The turn with the take.
            message_id: The message.
            audience: The people who see the message, if they are others than those of the
                turn's place: the turn then belongs to the current scene of those.
        """
        place = turn.place
        async with self._database.transaction() as statements:
            if audience is not None and audience != place.audience:
                await statements.run(
                    "UPDATE turns SET audience = ?, scene = coalesce((SELECT scene FROM places"  # noqa: S608
                    f" WHERE {_IN_PLACE}), 1) WHERE id = ?",
                    (audience, place.channel_id, audience, turn.id),
                )
            await statements.run(
                "UPDATE turns SET take = ?, intent = NULL, token = NULL, message_id = ?"
                " WHERE id = ?",
                (turn.number, message_id, turn.id),
            )

    async def presume(self, turn: Turn) -> None:
        """Record that a message most probably shows the intended take, which stays unsettled."""
        await self._database.run(
            "UPDATE turns SET take = intent WHERE id = ? AND intent = ? AND take IS NOT NULL",
            (turn.id, turn.number),
        )

    async def withdraw(
        self, turn: Turn, *, before: int | None = None, keep_take: bool = False
    ) -> None:
        """Record that the message does not show the intended take, and never will.

        A turn that was never shown is deleted; so is a take that was stored to be shown.

        Args:
            turn: The turn with the intended take.
            before: The intent that this one has replaced, if that was not settled.
            keep_take: Whether the take was shown before, so that it stays.
        """
        async with self._database.transaction() as statements:
            await statements.run("DELETE FROM turns WHERE id = ? AND take IS NULL", (turn.id,))
            if not keep_take:
                await statements.run(
                    "DELETE FROM takes WHERE turn_id = ? AND number = ? AND number > 1"
                    " AND number = (SELECT max(number) FROM takes WHERE turn_id = ?)"
                    " AND EXISTS (SELECT 1 FROM turns WHERE id = ? AND intent = ? AND take != ?)",
                    (turn.id, turn.number, turn.id, turn.id, turn.number, turn.number),
                )
            await statements.run(
                "UPDATE turns SET intent = ?, token = NULL WHERE id = ?", (before, turn.id)
            )

    async def unsettled(self, channel_id: int | None = None) -> list[Turn]:
        """Return the turns with an intent, with the intended take, of one channel or of all."""
        where = "intent IS NOT NULL" + ("" if channel_id is None else " AND channel_id = ?")
        return await self._turns(
            f"{UNSETTLED} WHERE {where} ORDER BY id",
            () if channel_id is None else (channel_id,),
        )

    async def unlink(self) -> None:
        """Clear all message ids, for a simulated Discord whose messages are gone."""
        await self._database.run("UPDATE turns SET message_id = NULL")

    async def _before(
        self, place: Place, scene: int, turn_id: int, limit: int = _ROWS_PER_READ
    ) -> list[Turn]:
        """Return shown turns with lower ids, newest first."""
        turns = await self._between(place, scene, 0, turn_id, "DESC", limit)
        if len(turns) < limit and (continued := await self._continued(place, scene)):
            newest = min(turn_id, continued.newest + 1)
            turns += await self._between(
                continued.place, continued.scene, 0, newest, "DESC", limit - len(turns)
            )
        return turns

    async def _after(
        self, place: Place, scene: int, turn_id: int, limit: int = _ROWS_PER_READ
    ) -> list[Turn]:
        """Return shown turns with higher ids, oldest first."""
        turns: list[Turn] = []
        if continued := await self._continued(place, scene):
            turns = await self._between(
                continued.place, continued.scene, turn_id, continued.newest + 1, "ASC", limit
            )
        if len(turns) < limit:
            turns += await self._between(place, scene, turn_id, _MAX_ID, "ASC", limit - len(turns))
        return turns

    async def _continued(self, place: Place, scene: int) -> Continuation | None:
        """Return the turns of another channel that come before those of a scene."""
        return await self.continuations.of(place) if scene <= 1 else None

    async def _between(
        self,
        place: Place,
        scene: int,
        low: int,
        high: int,
        order: Literal["ASC", "DESC"],
        limit: int,
    ) -> list[Turn]:
        """Return shown turns of a place with ids between two others, in an order of their ids."""
        return await self._turns(
            f"{WITH_TAKE} = turns.take WHERE {_IN_PLACE} AND scene = ? AND id > ? AND id < ?"
            f" ORDER BY id {order} LIMIT ?",
            (place.channel_id, place.audience, scene, low, high, limit),
        )

    async def _turns(self, sql: str, parameters: tuple[object, ...]) -> list[Turn]:
        return [turn_of(*row) for row in await self._database.fetch(sql, parameters)]


async def _insert_take(
    statements: Statements,
    turn_id: int,
    number: int,
    take: Take,
    created_at: float,
    prompt: str | None,
) -> None:
    await statements.run(
        "INSERT INTO takes"
        " (turn_id, number, reply, seed, weights, seconds, created_at, voice, prompt)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, nullif(?, (SELECT prompt FROM turns WHERE id = ?)))",
        (
            turn_id,
            number,
            take.reply,
            take.seed,
            take.weights,
            take.seconds,
            created_at,
            take.voice,
            prompt,
            turn_id,
        ),
    )
    if take.cue is not None:
        await statements.run("INSERT INTO cues VALUES (?, ?, ?)", (turn_id, number, take.cue))


def _length(turn: Turn) -> int:
    return len(turn.prompt or "") + len(turn.reply)
