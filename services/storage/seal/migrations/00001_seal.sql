-- The master key that wraps all keys below, by its fingerprint. One row.
CREATE TABLE seal_master (
  one         {int} PRIMARY KEY CHECK (one = 1),
  fingerprint {text}    NOT NULL
) {keyed};

-- Data keys of the orgs, wrapped. A key is never changed; that of an org that was deleted is gone.
CREATE TABLE seal_keys (
  org     {int} NOT NULL,
  id      {text}   NOT NULL, -- 16 hex digits
  wrapped {blob}   NOT NULL,
  master  {text}   NOT NULL, -- fingerprint of the master key that it is wrapped with
  created {int} NOT NULL, -- microseconds
  PRIMARY KEY (org, id)
) {keyed};

-- The key that new objects of an org get.
CREATE TABLE seal_orgs (
  org     {int} PRIMARY KEY,
  current {text} NOT NULL
) {keyed};
