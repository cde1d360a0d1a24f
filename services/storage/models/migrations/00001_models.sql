-- Times are microseconds since 1970 in UTC, 0: none. JSON is text, empty: none.
CREATE TABLE models_models (
  org         {int}  NOT NULL,
  id          {text} NOT NULL,           -- mdl-8 hex
  name        {text} NOT NULL,
  folded      {text} NOT NULL,           -- the name in lower case, for searching
  allocated   {int}  NOT NULL,           -- the highest version number that was ever given
  versions    {int}  NOT NULL DEFAULT 0, -- that are ready; 0: the model is not visible
  newest      {int}  NOT NULL DEFAULT 0, -- the highest that is ready
  promoted    {int}  NOT NULL DEFAULT 0, -- 0: none
  promoted_at {int}  NOT NULL DEFAULT 0,
  created     {int}  NOT NULL,
  updated     {int}  NOT NULL,
  PRIMARY KEY (org, id)
) {keyed};
CREATE INDEX models_models_updated ON models_models (org, updated);

CREATE TABLE models_versions (
  org              {int}  NOT NULL,
  model            {text} NOT NULL,
  number           {int}  NOT NULL,
  status           {text} NOT NULL, -- uploading, ready
  promote          {int}  NOT NULL, -- 1: as soon as it is ready
  object_name      {text} NOT NULL,
  artifact_uri     {text} NOT NULL,
  file_name        {text} NOT NULL,
  sha256           {text} NOT NULL,
  size             {int}  NOT NULL,
  format           {text} NOT NULL,
  algorithm        {text} NOT NULL,
  framework        {text} NOT NULL,
  hyperparameters  {text} NOT NULL,
  metrics          {text} NOT NULL,
  signature        {text} NOT NULL,
  training_job     {text} NOT NULL,
  training_data    {text} NOT NULL,
  training_seconds {real} NOT NULL, -- below 0: not said
  tags             {text} NOT NULL,
  usr              {int}  NOT NULL, -- 0: none
  created          {int}  NOT NULL,
  PRIMARY KEY (org, model, number)
) {keyed};
CREATE INDEX models_versions_uploading ON models_versions (created) WHERE status = 'uploading';

-- What was promoted when, and in place of what.
CREATE TABLE models_promotions (
  id       {id},
  org      {int}  NOT NULL,
  model    {text} NOT NULL,
  number   {int}  NOT NULL,
  previous {int}  NOT NULL, -- 0: none
  usr      {int}  NOT NULL,
  at       {int}  NOT NULL
) {strict};
CREATE INDEX models_promotions_model ON models_promotions (org, model, id);
