-- Times are microseconds since 1970 in UTC, 0: none. Org, user and workspace 0: none.
CREATE TABLE ledger_orgs (
  org        {int} PRIMARY KEY,
  byte_limit {int},                    -- NULL: the default; negative: unlimited
  used       {int} NOT NULL DEFAULT 0, -- sum of the sizes of files that are not free
  reserved   {int} NOT NULL DEFAULT 0, -- sum of the holds' bytes
  sequence   {int} NOT NULL DEFAULT 0, -- the newest given to a file
  CHECK (used >= 0 AND reserved >= 0)
) {strict};
CREATE INDEX ledger_orgs_used ON ledger_orgs (used);

CREATE TABLE ledger_files (
  id           {id},
  org          {int}  NOT NULL,
  usr          {int}  NOT NULL,
  workspace    {int}  NOT NULL,
  kind         {text} NOT NULL,
  category     {text} NOT NULL,
  purpose      {text} NOT NULL,
  object_name  {text} NOT NULL,
  file_name    {text} NOT NULL,
  key          {text} NOT NULL UNIQUE, -- of the object in the backend
  size         {int}  NOT NULL,        -- of the plaintext
  stored_size  {int}  NOT NULL,
  content_type {text} NOT NULL,
  sha256       {text} NOT NULL,
  tier         {text} NOT NULL,
  key_id       {text} NOT NULL,        -- of the encryption; empty: not encrypted by us
  free         {int}  NOT NULL,        -- 1: not counted against the quota
  columns      {text} NOT NULL,        -- JSON array; empty: none
  metadata     {text} NOT NULL,        -- JSON; empty: none
  data_source  {int}  NOT NULL,
  sequence     {int}  NOT NULL,        -- order of the org's files of kind file; 0 for the others
  created      {int}  NOT NULL,
  accessed     {int}  NOT NULL,
  tier_changed {int}  NOT NULL,
  expires      {int}  NOT NULL,
  UNIQUE (org, object_name)
) {strict};
CREATE INDEX ledger_files_newest ON ledger_files (org, usr, sequence) WHERE kind = 'file';
CREATE INDEX ledger_files_category ON ledger_files (org, usr, category, sequence) WHERE kind = 'file';
CREATE INDEX ledger_files_name ON ledger_files (org, usr, file_name, sequence) WHERE kind = 'file';
CREATE INDEX ledger_files_size ON ledger_files (org, usr, size, sequence) WHERE kind = 'file';
CREATE INDEX ledger_files_expires ON ledger_files (expires) WHERE expires > 0;
CREATE INDEX ledger_files_idle ON ledger_files (tier, accessed, id);

-- How many files there are in each piece of the sequence, so that a page far back is found without counting what comes before it.
-- Level 1 has pieces of 2^8, level 2 of 2^15. A piece without files has no row.
CREATE TABLE ledger_counts (
  org      {int}  NOT NULL,
  usr      {int}  NOT NULL,
  level    {int}  NOT NULL,
  piece    {int}  NOT NULL,
  category {text} NOT NULL,
  files    {int}  NOT NULL,
  PRIMARY KEY (org, usr, level, piece, category)
) {keyed};

-- What an org has of each sort.
CREATE TABLE ledger_parts (
  org      {int}  NOT NULL,
  kind     {text} NOT NULL,
  category {text} NOT NULL,
  tier     {text} NOT NULL,
  free     {int}  NOT NULL,
  files    {int}  NOT NULL,
  bytes    {int}  NOT NULL,
  PRIMARY KEY (org, kind, category, tier, free)
) {keyed};

-- Bytes reserved by uploads under way. One with an owner lives as long as that process renews its row in ledger_hosts, the others
-- until they expire.
CREATE TABLE ledger_holds (
  id          {id},
  org         {int}  NOT NULL,
  kind        {text} NOT NULL,
  object_name {text} NOT NULL,
  key         {text} NOT NULL UNIQUE,
  asked       {int}  NOT NULL, -- bytes of the new object, so far
  credit      {int}  NOT NULL, -- bytes of the file that it replaces
  bytes       {int}  NOT NULL, -- reserved: asked - credit, not below 0
  free        {int}  NOT NULL,
  owner       {text} NOT NULL,
  expires     {int}  NOT NULL,
  created     {int}  NOT NULL
) {strict};
CREATE INDEX ledger_holds_org ON ledger_holds (org);
CREATE INDEX ledger_holds_owner ON ledger_holds (owner, expires);

CREATE TABLE ledger_hosts (
  owner   {text} PRIMARY KEY, -- NAME/RANDOM of one process
  expires {int} NOT NULL
) {strict};

-- Keys whose objects are to be deleted.
CREATE TABLE ledger_tombstones (
  key   {text} PRIMARY KEY,
  org   {int} NOT NULL,
  since {int} NOT NULL,
  due   {int} NOT NULL -- not before; moved on by who works at it
) {strict};
CREATE INDEX ledger_tombstones_due ON ledger_tombstones (due);
