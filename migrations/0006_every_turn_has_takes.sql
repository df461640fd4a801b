-- 0006: from replies in `turns` and in `takes` to turns that point at one of their takes.
-- Why: a state that is stored twice can differ; and what a message shows has to be known even if
-- the bot is killed, or loses the answer of Discord, between showing a reply and recording it.
--
-- A turn is stored before its message shows it, with the take that the message is about to show
-- (`intent`). Once that is known to be shown, it is the turn's `take`. A turn whose outcome is not
-- known keeps its intent until the message has been seen, or has proved to be missing.
-- `audience` is 0 if everyone in the channel sees the reply; otherwise only that person does, and
-- the turn belongs to a scene of theirs. `places` has the number of each place's current scene.
-- Deleted turns leave no row. Ids are never reused, because buttons of old messages contain them.

CREATE TABLE new_turns (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    guild_id    INTEGER,                    -- NULL outside servers
    channel_id  INTEGER NOT NULL,           -- a thread or a direct message is a channel of its own
    audience    INTEGER NOT NULL DEFAULT 0,
    scene       INTEGER NOT NULL,           -- number of the scene in its place
    user_id     INTEGER NOT NULL,
    prompt      TEXT,                       -- NULL continues the scene without new words
    max_chars   INTEGER NOT NULL,
    temperature REAL    NOT NULL,
    created_at  REAL    NOT NULL,
    message_id  INTEGER,                    -- NULL until it is known
    take        INTEGER,                    -- number of the take that the message shows
    intent      INTEGER,                    -- number of the take that it is about to show
    token       TEXT                        -- of the interaction that shows it, until it is known
) STRICT;

CREATE TABLE new_takes (
    turn_id    INTEGER NOT NULL REFERENCES turns (id) ON DELETE CASCADE,
    number     INTEGER NOT NULL,            -- from 1
    reply      TEXT    NOT NULL,
    seed       INTEGER NOT NULL,
    weights    TEXT    NOT NULL,
    seconds    REAL    NOT NULL,
    created_at REAL    NOT NULL,
    PRIMARY KEY (turn_id, number)
) STRICT;

CREATE TABLE places (
    channel_id INTEGER NOT NULL,
    audience   INTEGER NOT NULL,
    guild_id   INTEGER,
    scene      INTEGER NOT NULL,            -- number of the current scene
    counted    INTEGER NOT NULL DEFAULT 0,  -- 1 once a turn of it was shown
    PRIMARY KEY (channel_id, audience)
) STRICT, WITHOUT ROWID;

-- The threads in which turns were played. Discord does not report those of a deleted channel that
-- were archived.
CREATE TABLE threads (
    id        INTEGER PRIMARY KEY,
    parent_id INTEGER NOT NULL,             -- the channel that it belongs to
    guild_id  INTEGER
) STRICT;

-- Deletions that were confirmed and are not complete.
CREATE TABLE erasures (
    id     INTEGER PRIMARY KEY,
    scope  TEXT    NOT NULL CHECK (scope IN ('user', 'channel', 'guild')),
    target INTEGER NOT NULL,                -- id of the person, channel or server
    newest INTEGER NOT NULL                 -- turns with higher ids are later than the deletion
) STRICT;

INSERT INTO places (channel_id, audience, guild_id, scene, counted)
SELECT channel_id, 0, max(guild_id), max(scene), 0
FROM turns WHERE state != 'pending' GROUP BY channel_id;

UPDATE places SET counted = EXISTS (
    SELECT 1 FROM turns
    WHERE channel_id = places.channel_id AND scene = places.scene
        AND state != 'pending' AND weights != ''
);

INSERT INTO new_turns (
    id, guild_id, channel_id, scene, user_id, prompt, max_chars, temperature, created_at,
    message_id, take, intent
)
SELECT
    id, guild_id, channel_id, scene, user_id, prompt, max_chars, temperature, created_at,
    message_id, iif(state = 'shown', take, NULL), iif(state = 'shown', NULL, take)
FROM turns WHERE state != 'deleted' ORDER BY id;

-- So that the ids of deleted rows are not given again.
INSERT INTO sqlite_sequence (name, seq)
SELECT 'new_turns', 0 WHERE NOT EXISTS (SELECT 1 FROM sqlite_sequence WHERE name = 'new_turns');
UPDATE sqlite_sequence SET seq = max(seq, (SELECT coalesce(max(id), 0) FROM turns))
WHERE name = 'new_turns';

INSERT INTO new_takes
SELECT takes.* FROM takes JOIN new_turns ON new_turns.id = turn_id ORDER BY turn_id, number;

INSERT OR IGNORE INTO new_takes
SELECT id, take, reply, seed, weights, seconds, created_at
FROM turns WHERE state != 'deleted' ORDER BY id;

DROP TRIGGER count_shown_turn;
DROP TRIGGER count_take;
DROP TRIGGER takes_of_deleted;
DROP TABLE takes;
DROP TABLE turns;
ALTER TABLE new_turns RENAME TO turns;
ALTER TABLE new_takes RENAME TO takes;

CREATE INDEX turns_of_scene ON turns (channel_id, audience, scene, id);
CREATE UNIQUE INDEX turn_of_message ON turns (channel_id, message_id) WHERE message_id IS NOT NULL;
CREATE INDEX turns_of_guild ON turns (guild_id);
CREATE INDEX turns_of_user ON turns (user_id);
CREATE INDEX turns_by_time ON turns (created_at);
CREATE INDEX threads_of_channel ON threads (parent_id);
CREATE INDEX places_of_person ON places (audience) WHERE audience != 0;
CREATE INDEX unsettled_turns ON turns (channel_id) WHERE intent IS NOT NULL;

-- A turn is counted when it is shown for the first time, a further take when it is stored.
CREATE TRIGGER count_shown_turn AFTER UPDATE OF take ON turns
WHEN old.take IS NULL AND new.take IS NOT NULL
BEGIN
    UPDATE totals SET
        scenes = scenes + NOT EXISTS (
            SELECT 1 FROM places
            WHERE channel_id = new.channel_id AND audience = new.audience
                AND scene >= new.scene AND counted
        ),
        characters = characters + (
            SELECT length(reply) FROM takes WHERE turn_id = new.id AND number = new.take
        );
    INSERT INTO places (channel_id, audience, guild_id, scene, counted)
    VALUES (new.channel_id, new.audience, new.guild_id, new.scene, 1)
    ON CONFLICT DO UPDATE SET scene = excluded.scene, counted = 1
    WHERE excluded.scene >= scene;
END;

CREATE TRIGGER count_take AFTER INSERT ON takes WHEN new.number > 1
BEGIN
    UPDATE totals SET characters = characters + length(new.reply);
END;
