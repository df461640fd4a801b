-- 0013: from requests by commands alone to messages that mention the bot.
-- Why: people talk to a bot. In a server it answers them only once its managers want that.

ALTER TABLE guild_settings
    ADD COLUMN answer_mentions INTEGER NOT NULL DEFAULT 0 CHECK (answer_mentions IN (0, 1));
