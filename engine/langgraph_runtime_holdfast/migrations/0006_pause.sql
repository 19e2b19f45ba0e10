-- A deployment that is told to wait: while this table has a row, servers begin nothing by themselves.
-- `IF NOT EXISTS`, because a restore makes it before the backup's data are there.
-- Minimum version: 5
-- Down: drop table holdfast_pause;

CREATE TABLE IF NOT EXISTS holdfast_pause (
    -- One row at most.
    is_on  boolean PRIMARY KEY DEFAULT true CHECK (is_on),
    reason text NOT NULL,
    since  timestamptz NOT NULL DEFAULT now()
);
