-- 0003: from one reply to a turn to several takes of it.
-- Why: a turn can be played again, and people leaf through what came of it.
--
-- The row of a turn holds the take that is shown, the one that feeds the scene. `takes` holds all
-- of them, that one too, from the second on; a turn that was never played again has none there.
-- A trigger takes them along with their turn's words, whoever removes those.

ALTER TABLE turns ADD COLUMN take INTEGER NOT NULL DEFAULT 1;  -- the number of the shown take

CREATE TABLE takes (
    turn_id    INTEGER NOT NULL REFERENCES turns (id) ON DELETE CASCADE,
    number     INTEGER NOT NULL,        -- from 1
    reply      TEXT    NOT NULL,
    seed       INTEGER NOT NULL,
    weights    TEXT    NOT NULL,
    seconds    REAL    NOT NULL,
    created_at REAL    NOT NULL,
    PRIMARY KEY (turn_id, number)
) STRICT;

CREATE TRIGGER takes_of_deleted AFTER UPDATE OF state ON turns WHEN new.state = 'deleted'
BEGIN
    DELETE FROM takes WHERE turn_id = new.id;
END;

-- What one person asked for is exported and forgotten together.
CREATE INDEX turns_of_user ON turns (user_id);

-- Another take is as much written as the first, which was counted when its turn was shown.
CREATE TRIGGER count_take AFTER INSERT ON takes WHEN new.number > 1
BEGIN
    UPDATE totals SET characters = characters + length(new.reply);
END;
