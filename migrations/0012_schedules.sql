-- 0012: from scenes that somebody asks for to scenes that a server has played each day.
-- Why: the time, the place and the words of a daily scene must survive a restart, and so must the
-- knowledge that it was played today.
--
-- A row has the words of the person who made it: it goes when that person's words are deleted, and
-- with its channel and its server. Numbers are not used again, because people read them in a list and
-- name them later.

CREATE TABLE schedules (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    guild_id   INTEGER NOT NULL,
    channel_id INTEGER NOT NULL,
    parent_id  INTEGER,                     -- of a thread: the channel that it belongs to
    user_id    INTEGER NOT NULL,            -- the person who made it
    time       TEXT    NOT NULL,            -- 'HH:MM' in the time zone
    zone       TEXT    NOT NULL,            -- name in the IANA time zone database
    prompt     TEXT    NOT NULL,
    last_day   TEXT    NOT NULL,            -- 'YYYY-MM-DD' in the time zone: no run up to this day
    due_at     REAL    NOT NULL,            -- next run, follows from the columns above; seconds since 1970 UTC
    outcome    TEXT,                        -- of `last_day`; NULL before the first run
    failures   INTEGER NOT NULL DEFAULT 0,  -- in a row
    paused     INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE INDEX due_schedules ON schedules (due_at) WHERE NOT paused;
CREATE INDEX schedules_of_guild ON schedules (guild_id);
