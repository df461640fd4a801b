-- 0004: training runs, and which of them speak.
-- Why: the bot's owner trains from Discord; that one run at a time is under way, how each ended,
-- and whose weights speak must hold across restarts.
--
-- Times are seconds since 1970 UTC, losses nats per character. A run's files are in a folder that
-- is named by its id, so rows are never deleted: an id is not given twice.

CREATE TABLE runs (
    id            INTEGER PRIMARY KEY,
    state         TEXT    NOT NULL DEFAULT 'running' CHECK (
        state IN ('running', 'interrupted', 'cancelled', 'failed', 'finished', 'discarded')
    ),
    user_id       INTEGER NOT NULL,     -- who asked for it; 0 once that is forgotten
    guild_id      INTEGER,              -- NULL outside servers
    channel_id    INTEGER,
    message_id    INTEGER,              -- the live message
    preset        TEXT    NOT NULL,
    minutes       REAL    NOT NULL,
    corpus        TEXT,                 -- the name of an attached text; NULL for the bot's own
    step          INTEGER NOT NULL DEFAULT 0,
    steps         INTEGER,              -- planned
    corpus_sha256 TEXT,                 -- this and what follows is known at the end
    weights       TEXT,                 -- short name
    loss          REAL,                 -- held out
    old_weights   TEXT,                 -- which spoke then
    old_loss      REAL,                 -- of those; NULL where it is of another text
    problem       TEXT,
    started_at    REAL    NOT NULL,
    ended_at      REAL
) STRICT;

CREATE UNIQUE INDEX one_run_at_a_time ON runs (state) WHERE state = 'running';
CREATE INDEX runs_of_guild ON runs (guild_id);

-- The newest that was not withdrawn speaks; a rollback withdraws it. Without any, those of the
-- settings speak.
CREATE TABLE promotions (
    id           INTEGER PRIMARY KEY,
    run_id       INTEGER NOT NULL REFERENCES runs (id),
    user_id      INTEGER NOT NULL,      -- who promoted it; 0 once that is forgotten
    promoted_at  REAL    NOT NULL,
    withdrawn_by INTEGER,               -- 0: the bot itself, which could not load it
    withdrawn_at REAL
) STRICT;
