-- What is known of the collections that pgvector has an index of. The vectors of each are once more in a table pgvector_<collection_id>.
CREATE TABLE pgvector_collections (
  collection_id {int} NOT NULL PRIMARY KEY,
  version       {int} NOT NULL, -- its table holds all rows of the collection up to this version ...
  row_id        {int} NOT NULL, -- ... and, of this version, up to this row
  cleaned       {int} NOT NULL, -- rows that were removed without a tombstone up to this version are gone from its table
  trained       {int} NOT NULL, -- vectors when the index was built; 0: there is none yet
  changed       {int} NOT NULL, -- rows written since
  ef            {int} NOT NULL  -- hnsw.ef_search that finds enough; 0: not measured yet, -1: none does
);
