-- The inbox: one row for each (run, reported status), however often it was delivered.
CREATE SCHEMA IF NOT EXISTS callbacks;

CREATE TABLE IF NOT EXISTS callbacks.inbox (
    id               bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    -- what the sender said
    run_id           uuid        NOT NULL,
    thread_id        uuid        NOT NULL,
    reported_status  text        NOT NULL,
    run_started_at   timestamptz,
    run_ended_at     timestamptz,
    webhook_sent_at  timestamptz,
    deliveries       integer     NOT NULL DEFAULT 1,
    received_at      timestamptz NOT NULL DEFAULT now(),
    last_received_at timestamptz NOT NULL DEFAULT now(),
    -- received: to be verified; verified: to be handled; handled and unknown: finished
    state            text        NOT NULL DEFAULT 'received'
                     CHECK (state IN ('received', 'verified', 'handled', 'unknown')),
    -- what the server itself said when asked
    status           text,
    awaits_approval  boolean,
    verified_at      timestamptz,
    handled_at       timestamptz,
    -- the next look at an unfinished row; in the future while a worker holds it or it backs off
    next_attempt_at  timestamptz NOT NULL DEFAULT now(),
    verify_attempts  integer     NOT NULL DEFAULT 0,
    handler_attempts integer     NOT NULL DEFAULT 0,
    last_error       text,
    CONSTRAINT inbox_run_and_status UNIQUE (run_id, reported_status)
);
-- What identifies a webhook however often it is delivered; the first version of this table had no such column.
ALTER TABLE callbacks.inbox ADD COLUMN IF NOT EXISTS webhook_id text;

CREATE INDEX IF NOT EXISTS inbox_due ON callbacks.inbox (next_attempt_at) WHERE state IN ('received', 'verified');
CREATE INDEX IF NOT EXISTS inbox_webhook ON callbacks.inbox (webhook_id);
CREATE INDEX IF NOT EXISTS inbox_age ON callbacks.inbox (received_at);
