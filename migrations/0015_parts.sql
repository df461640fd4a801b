-- 0015: from scenes that the bard plays alone to scenes in which people play parts.
-- Why: when a scene comes to a speaker whom a person plays, the bard waits for that person's line,
-- also after a restart.
--
-- A part belongs to the current scene of a channel that everyone there sees, and ends with it. Its
-- name is spelt as in the plays, or in capitals. `active_at` is when the part was taken, or when
-- the bard last played in the scene: a person's line is awaited since then.
-- `cues` has the takes that end where such a person is to speak.

CREATE TABLE parts (
    id         INTEGER PRIMARY KEY,
    guild_id   INTEGER,                     -- NULL outside servers
    channel_id INTEGER NOT NULL,
    scene      INTEGER NOT NULL,
    name       TEXT    NOT NULL COLLATE NOCASE,
    user_id    INTEGER NOT NULL,
    active_at  REAL    NOT NULL
) STRICT;

CREATE UNIQUE INDEX part_of_channel ON parts (channel_id, name);
CREATE UNIQUE INDEX part_of_person ON parts (user_id, channel_id);
CREATE INDEX parts_of_guild ON parts (guild_id);

CREATE TABLE cues (
    turn_id INTEGER NOT NULL,
    number  INTEGER NOT NULL,               -- of the take
    part    TEXT    NOT NULL,               -- the name of the speaker
    PRIMARY KEY (turn_id, number),
    FOREIGN KEY (turn_id, number) REFERENCES takes (turn_id, number) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;

CREATE TRIGGER end_parts AFTER UPDATE OF scene ON places
WHEN new.audience = 0 AND new.scene != old.scene
BEGIN
    DELETE FROM parts WHERE channel_id = new.channel_id AND scene != new.scene;
END;

-- The next scene of a place without turns is number 1.
CREATE TRIGGER keep_parts AFTER DELETE ON places WHEN old.audience = 0
BEGIN
    UPDATE parts SET scene = 1 WHERE channel_id = old.channel_id;
END;
