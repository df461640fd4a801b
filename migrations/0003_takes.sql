-- 0003: from one reply to a turn to several takes of it.
-- Why: people can reroll a turn and browse its takes.
--
-- The row of a turn has the take that is shown, which is the one in the scene. Once a turn has a
-- second take, `takes` has all of them, the shown one included; before that it has none.
-- A trigger deletes the takes of a turn together with its text.

ALTER TABLE turns ADD COLUMN take INTEGER NOT NULL DEFAULT 1;  -- number of the shown take

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

-- The turns of one person are exported and deleted together.
CREATE INDEX turns_of_user ON turns (user_id);

-- The first take was counted when its turn was shown.
CREATE TRIGGER count_take AFTER INSERT ON takes WHEN new.number > 1
BEGIN
    UPDATE totals SET characters = characters + length(new.reply);
END;
