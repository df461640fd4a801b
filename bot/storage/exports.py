"""Read all that is stored under a person's id, as JSON."""

from collections.abc import AsyncIterator
from typing import Any

from .database import Database

_QUERIES = (
    """
SELECT id, json_object(
    'server_id', CAST(guild_id AS TEXT), 'channel_id', CAST(channel_id AS TEXT),
    'message_id', CAST(message_id AS TEXT), 'user_id', CAST(user_id AS TEXT),
    'private', json(iif(audience, 'true', 'false')),
    'asked_at', strftime('%Y-%m-%dT%H:%M:%SZ', created_at, 'unixepoch'),
    'scene', scene, 'prompt', prompt, 'max_chars', max_chars, 'temperature', temperature,
    'shown_take', take,
    'takes', (
        SELECT json_group_array(json_object(
            'number', number, 'prompt', coalesce(takes.prompt, turns.prompt),
            'reply', reply, 'seed', seed, 'weights', weights, 'seconds', seconds,
            'voice', (SELECT name FROM voices WHERE voices.id = takes.voice),
            'cue', (
                SELECT part FROM cues
                WHERE cues.turn_id = takes.turn_id AND cues.number = takes.number
            ),
            'asked_at', strftime('%Y-%m-%dT%H:%M:%SZ', created_at, 'unixepoch')
        )) FROM takes WHERE turn_id = turns.id
    )
) FROM turns WHERE user_id = :user AND id > :after ORDER BY id LIMIT :limit""",
    """
SELECT id, json_object(
    'type', 'run', 'run', id, 'state', state, 'user_id', CAST(user_id AS TEXT),
    'server_id', CAST(guild_id AS TEXT), 'channel_id', CAST(channel_id AS TEXT),
    'message_id', CAST(message_id AS TEXT),
    'started_at', strftime('%Y-%m-%dT%H:%M:%SZ', started_at, 'unixepoch'),
    'ended_at', strftime('%Y-%m-%dT%H:%M:%SZ', ended_at, 'unixepoch'),
    'preset', preset, 'minutes', minutes, 'corpus', corpus, 'corpus_sha256', corpus_sha256,
    'step', step, 'steps', steps, 'weights', weights, 'loss', loss,
    'old_weights', old_weights, 'old_loss', old_loss,
    'start_weights', start_weights, 'start_loss', start_loss,
    'evaluated_fraction', evaluated_fraction, 'problem', problem
) FROM runs WHERE user_id = :user AND id > :after ORDER BY id LIMIT :limit""",
    # Another person's part in a promotion is that person's data.
    """
SELECT id, json_object(
    'type', 'promotion', 'run', run_id,
    'promoted_by', iif(user_id = :user, CAST(user_id AS TEXT), NULL),
    'promoted_at', strftime('%Y-%m-%dT%H:%M:%SZ', promoted_at, 'unixepoch'),
    'withdrawn_by', iif(withdrawn_by = :user, CAST(withdrawn_by AS TEXT), NULL),
    'withdrawn_at', strftime('%Y-%m-%dT%H:%M:%SZ', withdrawn_at, 'unixepoch')
) FROM promotions WHERE :user IN (user_id, withdrawn_by) AND id > :after
ORDER BY id LIMIT :limit""",
    """
SELECT user_id, json_object(
    'type', 'block', 'user_id', CAST(user_id AS TEXT),
    'blocked_at', strftime('%Y-%m-%dT%H:%M:%SZ', blocked_at, 'unixepoch')
) FROM blocks WHERE user_id = :user AND user_id > :after LIMIT :limit""",
    """
SELECT id, json_object(
    'type', 'daily_scene', 'number', id, 'user_id', CAST(user_id AS TEXT),
    'server_id', CAST(guild_id AS TEXT), 'channel_id', CAST(channel_id AS TEXT),
    'thread_of', CAST(parent_id AS TEXT),
    'time', time, 'time_zone', zone, 'prompt', prompt,
    'last_day', last_day, 'last_outcome', outcome, 'failures', failures,
    'paused', json(iif(paused, 'true', 'false'))
) FROM schedules WHERE user_id = :user AND id > :after ORDER BY id LIMIT :limit""",
    """
SELECT id, json_object(
    'type', 'part', 'name', name, 'user_id', CAST(user_id AS TEXT),
    'server_id', CAST(guild_id AS TEXT), 'channel_id', CAST(channel_id AS TEXT), 'scene', scene,
    'active_at', strftime('%Y-%m-%dT%H:%M:%SZ', active_at, 'unixepoch')
) FROM parts WHERE user_id = :user AND id > :after ORDER BY id LIMIT :limit""",
)
_ROWS_PER_READ = 50


class ExportStore:
    """Read all that is stored under the id of a person, for that person."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def read(self, user_id: int) -> AsyncIterator[str]:
        """Yield a person's turns, runs, promotions, block and daily scenes as JSON objects.

        Each kind is in the order of its ids. Ids of Discord are strings: many JSON parsers round
        such large numbers.
        """
        for query in _QUERIES:
            rows: list[Any] = []
            while True:
                after = rows[-1][0] if rows else 0
                values = {"user": user_id, "after": after, "limit": _ROWS_PER_READ}
                rows = await self._database.fetch(query, values)
                for row in rows:
                    yield row[1]
                if len(rows) < _ROWS_PER_READ:
                    break
