-- 0007: from runs whose end is shown if that works at once to runs whose end is kept until shown.
-- Why: a run can end while Discord cannot be reached or refuses the message, or while the bot is
-- down. Its end is then shown later, also after a restart.
--
-- 1: its end was shown, or Discord refuses every way to show it. The ends from before this version
-- count as shown; that of a run which is still stored as running does not.

ALTER TABLE runs ADD COLUMN end_shown INTEGER NOT NULL DEFAULT 0 CHECK (end_shown IN (0, 1));
UPDATE runs SET end_shown = 1 WHERE state != 'running';
