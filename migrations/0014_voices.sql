-- 0014: from one voice to several.
-- Why: the bot's owner keeps the weights of several runs side by side, and people choose whose voice
-- goes on with their scene; a server and a channel have a voice that their new scenes begin in.
--
-- The default voice has the number 0 and no row: it speaks with the weights that are promoted, else
-- with the configured ones. Rows of voices are never deleted: a take keeps the name of a voice that
-- was removed, and SQLite would reuse the number.

CREATE TABLE voices (
    id          INTEGER PRIMARY KEY,
    name        TEXT    NOT NULL,
    key         TEXT    NOT NULL,       -- the name without the difference of capitals
    run_id      INTEGER NOT NULL REFERENCES runs (id),
    promoted_at REAL    NOT NULL,       -- when it got the weights of that run; seconds since 1970 UTC
    removed_at  REAL
) STRICT;

CREATE UNIQUE INDEX voice_of_name ON voices (key) WHERE removed_at IS NULL;

-- The voice in which new scenes begin: in a channel with its threads, or in a server (channel 0).
CREATE TABLE default_voices (
    guild_id   INTEGER NOT NULL,
    channel_id INTEGER NOT NULL,
    voice      INTEGER NOT NULL,
    PRIMARY KEY (guild_id, channel_id)
) STRICT, WITHOUT ROWID;

ALTER TABLE takes ADD COLUMN voice INTEGER NOT NULL DEFAULT 0;
