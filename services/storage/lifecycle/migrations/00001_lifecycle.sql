-- Runs of the policy: of one org, or of all (0). Times are microseconds since 1970 in UTC; 0: none.
CREATE TABLE lifecycle_runs (
  org     {int} PRIMARY KEY,
  owner   {text} NOT NULL, -- the process whose scheduled run is under way
  expires {int} NOT NULL,  -- when the others may take over from it
  ran     {int} NOT NULL   -- when the newest run ended
) {strict};
