-- 0001: from an empty database to the history of turns.
-- Why: a scene must survive a restart, and each reply must be traceable to what made it.
--
-- One row per turn. A turn is written as 'pending' before its message is sent, is 'shown' once
-- the message is known, and 'deleted' (its words removed) when the message was deleted. Only
-- shown turns feed the scene, so what a crash leaves pending never does.
-- Times are seconds since 1970 UTC. A prompt of NULL means that the scene went on by itself.

CREATE TABLE turns (
    id          INTEGER PRIMARY KEY,
    guild_id    INTEGER,                -- NULL outside servers
    channel_id  INTEGER NOT NULL,       -- a thread or a direct message is a channel of its own
    user_id     INTEGER NOT NULL,
    scene       INTEGER NOT NULL,       -- counts the scenes of a channel
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

-- "BARD": tells this file from another program's database.
PRAGMA application_id = 1111577156;
