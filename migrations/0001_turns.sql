-- 0001: from an empty database to the table of turns.
-- Why: a scene must survive a restart, and each reply needs a record of how it was generated.
--
-- One row per turn. A turn is 'pending' before its message is sent, 'shown' once the message is
-- known, and 'deleted', without its text, after the message was deleted. Only shown turns are part
-- of the scene, so a turn that a crash leaves pending is not.
-- Times are seconds since 1970 UTC. A prompt of NULL continues the scene without new words.

CREATE TABLE turns (
    id          INTEGER PRIMARY KEY,
    guild_id    INTEGER,                -- NULL outside servers
    channel_id  INTEGER NOT NULL,       -- a thread or a direct message is a channel of its own
    user_id     INTEGER NOT NULL,
    scene       INTEGER NOT NULL,       -- number of the scene in its channel
    prompt      TEXT,
    reply       TEXT    NOT NULL,
    max_chars   INTEGER NOT NULL,
    temperature REAL    NOT NULL,
    seed        INTEGER NOT NULL,
    weights     TEXT    NOT NULL,
    seconds     REAL    NOT NULL,
    created_at  REAL    NOT NULL,
    state       TEXT    NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'shown', 'deleted')),
    message_id  INTEGER
) STRICT;

CREATE INDEX turns_of_scene ON turns (channel_id, scene, id);
CREATE UNIQUE INDEX turn_of_message ON turns (channel_id, message_id) WHERE message_id IS NOT NULL;

-- "BARD": distinguishes this file from the database of another program.
PRAGMA application_id = 1111577156;
