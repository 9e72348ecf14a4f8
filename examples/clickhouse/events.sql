-- The history of incidents. An event that comes twice is one row, and `incident` shows what each has come to.
CREATE DATABASE IF NOT EXISTS aced;

CREATE TABLE IF NOT EXISTS aced.event (
  time DateTime64(3, 'UTC'),
  event LowCardinality(String),
  event_key String,
  level LowCardinality(String),
  cluster LowCardinality(String),
  database LowCardinality(String),
  incident String,
  revision UInt32,
  -- Of the lease, where several aced share one.
  epoch Nullable(UInt64),
  fingerprint String,
  msg String,
  since DateTime64(3, 'UTC'),
  openForMs Nullable(UInt64),
  -- Of drift:
  table LowCardinality(String),
  kind LowCardinality(String),
  rows UInt64,
  missing UInt64,
  extra UInt64,
  different UInt64,
  nodes Array(String),
  agree Array(Array(String)),
  trigger LowCardinality(String),
  cause LowCardinality(String),
  detectedAfterMs Nullable(UInt64),
  positions Map(String, String),
  origin Map(String, String),
  xid Map(String, String),
  commitTime Map(String, String),
  hints Array(String),
  acknowledgedBy String,
  how LowCardinality(String),
  -- Of what is not verified:
  status LowCardinality(String),
  about LowCardinality(String),
  subject String,
  reason String
) ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMM(time)
ORDER BY (cluster, incident, revision, event_key);

CREATE VIEW IF NOT EXISTS aced.incident AS
SELECT
  cluster,
  incident,
  argMax(event, revision) AS last_event,
  any(table) AS table,
  any(cause) AS cause,
  max(rows) AS most_rows,
  min(since) AS opened_at,
  argMax(openForMs, revision) AS open_for_ms,
  argMax(how, revision) AS how
FROM aced.event
WHERE event LIKE 'drift\_%' AND incident != ''
GROUP BY cluster, incident;
