-- 0008: from rows of places and threads that stay to rows that go with the last turn of the place.
-- Why: the row of a place that one person sees has that person's id, which no deletion of turns
-- may leave behind.
--
-- A place without turns has no scene: the next one is number 1.
-- A message is found by its id alone, because an interaction does not always say which channel it
-- is from; its turn then has the id of the interaction as its channel.
-- The durations for the median time have a table of their own, because lookups in `takes` take
-- longer the larger it is.

DELETE FROM places WHERE NOT EXISTS (
    SELECT 1 FROM turns
    WHERE turns.channel_id = places.channel_id AND turns.audience = places.audience
);
DELETE FROM threads WHERE NOT EXISTS (SELECT 1 FROM turns WHERE channel_id = threads.id);

DROP INDEX turn_of_message;
CREATE UNIQUE INDEX turn_of_message ON turns (message_id, channel_id) WHERE message_id IS NOT NULL;

CREATE TRIGGER forget_empty_place AFTER DELETE ON turns
BEGIN
    DELETE FROM places
    WHERE channel_id = old.channel_id AND audience = old.audience AND NOT EXISTS (
        SELECT 1 FROM turns WHERE channel_id = old.channel_id AND audience = old.audience
    );
    DELETE FROM threads
    WHERE id = old.channel_id AND NOT EXISTS (
        SELECT 1 FROM turns WHERE channel_id = old.channel_id
    );
END;

-- Seconds in which the replies of the last 100 turns were generated, deleted turns included.
CREATE TABLE durations (
    id      INTEGER PRIMARY KEY,
    seconds REAL NOT NULL
) STRICT;

INSERT INTO durations (seconds)
SELECT seconds FROM (
    SELECT turns.id, seconds FROM turns JOIN takes ON turn_id = turns.id AND number = take
    ORDER BY turns.id DESC LIMIT 100
) ORDER BY id;

CREATE TRIGGER keep_duration AFTER UPDATE OF take ON turns
WHEN old.take IS NULL AND new.take IS NOT NULL
BEGIN
    INSERT INTO durations (seconds)
    SELECT seconds FROM takes WHERE turn_id = new.id AND number = new.take;
    DELETE FROM durations WHERE id <= (SELECT max(id) FROM durations) - 100;
END;
