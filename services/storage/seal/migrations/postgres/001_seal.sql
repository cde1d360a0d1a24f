-- +goose Up
-- The master key that wraps all keys below, by its fingerprint. One row.
CREATE TABLE seal_master (
  one         INTEGER PRIMARY KEY CHECK (one = 1),
  fingerprint TEXT    NOT NULL
);

-- Data keys of the orgs, wrapped. A key is never changed; that of an org that was deleted is gone.
CREATE TABLE seal_keys (
  org     BIGINT NOT NULL,
  id      TEXT   NOT NULL, -- 16 hex digits
  wrapped BYTEA  NOT NULL,
  master  TEXT   NOT NULL, -- fingerprint of the master key that it is wrapped with
  created BIGINT NOT NULL, -- microseconds
  PRIMARY KEY (org, id)
);

-- The key that new objects of an org get.
CREATE TABLE seal_orgs (
  org     BIGINT PRIMARY KEY,
  current TEXT NOT NULL
);
