-- One row for each pusher that ever had a cursor; only "forget" deletes one.
CREATE TABLE pushers (
  name      TEXT PRIMARY KEY,
  start     INTEGER NOT NULL,           -- first position that was meant for it
  cursor    INTEGER NOT NULL,           -- position of the first row that is not settled
  paused    INTEGER NOT NULL DEFAULT 0,
  delivered INTEGER NOT NULL DEFAULT 0, -- totals since the beginning
  skipped   INTEGER NOT NULL DEFAULT 0,
  dead      INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;

-- Times are Unix nanoseconds. received_at is part of the key: should positions ever be given again (a journal restored
-- from an old copy), the new row does not overwrite the old one.
CREATE TABLE dead_letters (
  id              INTEGER PRIMARY KEY AUTOINCREMENT,
  pusher          TEXT    NOT NULL,
  position        INTEGER NOT NULL,
  delivery        INTEGER NOT NULL, -- position of the first row of the request
  org             INTEGER NOT NULL,
  user            INTEGER NOT NULL,
  uuid            TEXT    NOT NULL,
  idx             INTEGER,          -- the client's index; NULL: none
  received_at     INTEGER NOT NULL,
  request_id      TEXT    NOT NULL,
  data            BLOB    NOT NULL, -- the client's own bytes
  size            INTEGER NOT NULL, -- what the row counts against the cap
  class           TEXT    NOT NULL,
  code            TEXT    NOT NULL,
  message         TEXT    NOT NULL,
  attempts        INTEGER NOT NULL,
  first_failed_at INTEGER NOT NULL,
  failed_at       INTEGER NOT NULL,
  replay_to       TEXT,             -- pusher that is to try it again; NULL: nobody
  replay_rate     REAL    NOT NULL DEFAULT 0, -- rows per second; 0: as fast as it goes
  UNIQUE (pusher, position, received_at)
) STRICT;
CREATE INDEX dead_letters_org ON dead_letters (org, id);
CREATE INDEX dead_letters_uuid ON dead_letters (uuid);
CREATE INDEX dead_letters_replay ON dead_letters (replay_to, replay_rate, id) WHERE replay_to IS NOT NULL;

-- What is worth knowing of settled rows beside "delivered": one row for each flush, ranges packed into a blob.
CREATE TABLE notes (
  id     INTEGER PRIMARY KEY AUTOINCREMENT,
  pusher TEXT    NOT NULL,
  lo     INTEGER NOT NULL, -- lowest position in ranges
  hi     INTEGER NOT NULL, -- one past the highest
  ranges BLOB    NOT NULL
) STRICT;
CREATE INDEX notes_pusher ON notes (pusher, hi);
