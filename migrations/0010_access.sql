-- 0010: from settings for everybody in a server to roles, blocked people and departures.
-- Why: managers decide which roles may use the bard in their server; the bot's owner blocks people
-- everywhere, also after a restart; and a private bot says only once why it leaves a server.
--
-- Roles are ids, separated by spaces. Without allowed roles, all are. A denied role wins.

ALTER TABLE guild_settings ADD COLUMN allowed_roles TEXT NOT NULL DEFAULT '';
ALTER TABLE guild_settings ADD COLUMN denied_roles TEXT NOT NULL DEFAULT '';

CREATE TABLE blocks (
    user_id    INTEGER PRIMARY KEY,
    blocked_at REAL NOT NULL            -- seconds since 1970 UTC
) STRICT;

-- Servers that were told why the bot is about to leave them. The row goes once it has left.
CREATE TABLE departures (
    guild_id INTEGER PRIMARY KEY,
    told_at  REAL NOT NULL              -- seconds since 1970 UTC
) STRICT;
