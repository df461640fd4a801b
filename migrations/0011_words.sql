-- 0011: from one prompt a turn to takes with their own, and to scenes that go on in a thread.
-- Why: people change the words of a turn, and play on where they disturb nobody.
--
-- A take without a prompt of its own was generated from that of its turn.
-- The first scene of a thread goes on from turns of another channel, which are not copied: they are
-- read there, so that whoever deletes them deletes them everywhere. The row goes with the last of
-- those turns. What only one person sees is never continued in a thread.

ALTER TABLE takes ADD COLUMN prompt TEXT;

CREATE TABLE continuations (
    thread_id  INTEGER PRIMARY KEY,
    channel_id INTEGER NOT NULL,            -- where the continued turns were played
    scene      INTEGER NOT NULL,            -- number of their scene there
    newest     INTEGER NOT NULL             -- turns with higher ids are not continued
) STRICT;

CREATE INDEX continuations_of_channel ON continuations (channel_id);

CREATE TRIGGER forget_continuations AFTER DELETE ON turns WHEN old.audience = 0
BEGIN
    DELETE FROM continuations
    WHERE channel_id = old.channel_id AND NOT EXISTS (
        SELECT 1 FROM turns
        WHERE turns.channel_id = old.channel_id AND audience = 0
            AND turns.scene = continuations.scene AND id <= newest
    );
END;
