-- 0004: from turns and settings to training runs and promotions of their weights.
-- Why: the bot's owner trains from Discord; the limit of one active run, the result of each run,
-- and the choice of the active weights must survive a restart.
--
-- Times are seconds since 1970 UTC, losses are nats per character. The id of a run names the folder
-- of its files, so rows are never deleted: SQLite would reuse the id.

CREATE TABLE runs (
    id            INTEGER PRIMARY KEY,
    state         TEXT    NOT NULL DEFAULT 'running' CHECK (
        state IN ('running', 'interrupted', 'cancelled', 'failed', 'finished', 'discarded')
    ),
    user_id       INTEGER NOT NULL,     -- the person who started it; 0 once deleted
    guild_id      INTEGER,              -- NULL outside servers
    channel_id    INTEGER,
    message_id    INTEGER,              -- shows the status of the run
    preset        TEXT    NOT NULL,
    minutes       REAL    NOT NULL,
    corpus        TEXT,                 -- file name of an attached text, else NULL
    step          INTEGER NOT NULL DEFAULT 0,
    steps         INTEGER,              -- planned
    corpus_sha256 TEXT,                 -- this and the following are known at the end
    weights       TEXT,                 -- short name of the new weights
    loss          REAL,                 -- held-out loss of the new weights
    old_weights   TEXT,                 -- short name of the weights active at the end
    old_loss      REAL,                 -- their held-out loss; NULL if of another text
    problem       TEXT,
    started_at    REAL    NOT NULL,
    ended_at      REAL
) STRICT;

CREATE UNIQUE INDEX one_run_at_a_time ON runs (state) WHERE state = 'running';
CREATE INDEX runs_of_guild ON runs (guild_id);

-- The weights of the newest promotion that is not withdrawn are active; a rollback withdraws it.
-- Without a promotion, the configured weights are active.
CREATE TABLE promotions (
    id           INTEGER PRIMARY KEY,
    run_id       INTEGER NOT NULL REFERENCES runs (id),
    user_id      INTEGER NOT NULL,      -- the person who promoted it; 0 once deleted
    promoted_at  REAL    NOT NULL,
    withdrawn_by INTEGER,               -- 0: the bot itself, which could not load the weights
    withdrawn_at REAL
) STRICT;
