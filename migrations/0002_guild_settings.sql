-- 0002: from turns alone to settings of servers, stored totals, and indexes for deletion.
-- Why: managers change the bot's behaviour in their server; the statistics must not need a scan; a
-- server's turns are deleted when the bot leaves it, and old turns after the configured retention.
--
-- NULL selects the bot's default. Channels are ids, separated by spaces; an empty list means all.

CREATE TABLE guild_settings (
    guild_id    INTEGER PRIMARY KEY,
    channels    TEXT    NOT NULL DEFAULT '',
    max_chars   INTEGER,
    cooldown    INTEGER,                -- seconds
    temperature REAL,
    buttons     TEXT    NOT NULL DEFAULT 'everyone' CHECK (buttons IN ('everyone', 'asker'))
) STRICT;

CREATE INDEX turns_of_guild ON turns (guild_id);
CREATE INDEX turns_by_time ON turns (created_at);

-- Totals of all shown turns, deleted ones included.
CREATE TABLE totals (
    scenes     INTEGER NOT NULL,
    characters INTEGER NOT NULL
) STRICT;

INSERT INTO totals
SELECT
    (SELECT count(*) FROM (SELECT DISTINCT channel_id, scene FROM turns WHERE state != 'pending')),
    (SELECT coalesce(sum(length(reply)), 0) FROM turns WHERE state != 'pending');

CREATE TRIGGER count_shown_turn AFTER UPDATE OF state ON turns
WHEN OLD.state = 'pending' AND NEW.state = 'shown'
BEGIN
    UPDATE totals SET
        characters = characters + length(NEW.reply),
        scenes = scenes + NOT EXISTS (
            SELECT 1 FROM turns
            WHERE channel_id = NEW.channel_id AND scene = NEW.scene
                AND state != 'pending' AND id != NEW.id
                AND weights != ''       -- a row that only starts a scene has no weights
        );
END;
