-- 0002: settings of a server, totals that need no scan, and indexes for what is to be removed.
-- Why: managers decide how the bot behaves in their server; /about must stay cheap; a server's
-- turns go when the bot leaves it, and old ones after the days that the bot's owner may set.
--
-- A NULL leaves a setting to the bot's own. Channels are ids, separated by spaces; none means
-- everywhere.

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

-- What was ever shown, also after its words are gone.
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
                AND weights != ''       -- what only begins a scene was written by none
        );
END;
