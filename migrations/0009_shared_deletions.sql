-- 0009: from deletions of one process to those that all processes of a bot carry out.
-- Why: with shards in several processes, each has a database of its own. Whoever asks one of them
-- to forget their words asks all of them, through a folder that they share.
--
-- The ids of the requests in that folder that were carried out on this database. They do not contain
-- whose request it was: nothing of that person stays here.

CREATE TABLE shared_deletions (request TEXT PRIMARY KEY) WITHOUT ROWID;
