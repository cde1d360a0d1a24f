-- A collection belongs to one org; its dimensions, metric and model never change. Every write makes the next version: a host
-- that holds the collection in memory reads what came after the version that it has.
CREATE TABLE vector_collections (
  collection_id {id},
  org           {int}  NOT NULL,
  name          {text} NOT NULL,
  dimensions    {int}  NOT NULL,
  metric        {text} NOT NULL,
  model         {text} NOT NULL,
  version       {int}  NOT NULL,
  purged        {int}  NOT NULL, -- tombstones up to this version are gone: who has an older one reads everything again
  vectors       {int}  NOT NULL, -- without tombstones
  UNIQUE (org, name)
) {strict};

-- A deleted vector stays as a tombstone, empty, until the other hosts have had time to see it.
CREATE TABLE vectors (
  row_id        {id},
  collection_id {int}  NOT NULL,
  version       {int}  NOT NULL,
  deleted       {int}  NOT NULL,
  id            {text} NOT NULL,
  metadata      {text} NOT NULL, -- a JSON object, or empty
  content       {text} NOT NULL, -- the text that it was made of, or empty
  vector        {blob} NOT NULL, -- float32, little-endian
  UNIQUE (collection_id, id)
) {strict};

CREATE INDEX vectors_changes ON vectors (collection_id, version, row_id);
