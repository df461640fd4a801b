-- 0005: from runs that start from nothing to runs that may start from trained weights.
-- Why: a person's own text needs minutes and not hours from the active weights; the loss before and
-- after the run on the same text shows what it gained.

ALTER TABLE runs ADD COLUMN start_weights TEXT;      -- short name; NULL: it started from nothing
ALTER TABLE runs ADD COLUMN start_loss REAL;         -- of those on the held-out text, before step 1
ALTER TABLE runs ADD COLUMN evaluated_fraction REAL; -- part of that text that its losses are over
