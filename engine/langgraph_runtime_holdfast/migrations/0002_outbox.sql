-- The outbox: callbacks of runs that have ended, written in the transaction that ends them, until delivered.
-- Down: drop table outbox;

CREATE TABLE outbox (
    -- The webhook-id that the receiver sees, the same at every attempt and replay.
    id           uuid PRIMARY KEY,
    -- No foreign key: the thread may be deleted before the callback is delivered; a stateless run's always is.
    run_id       uuid NOT NULL,
    thread_id    uuid NOT NULL,
    url          text NOT NULL,
    -- Of the URL: what logs and lists may show, and whom a slow receiver may not hold up.
    host         text NOT NULL,
    -- JSON as it is sent, without webhook_sent_at; null once it is delivered.
    body         bytea,
    -- Encrypted by the deployment's own `encryption`.
    is_sealed    boolean NOT NULL DEFAULT false,
    created_at   timestamptz NOT NULL DEFAULT now(),
    -- When it is due: later while it backs off, and while a process that has claimed it keeps its claim.
    available_at timestamptz NOT NULL DEFAULT now(),
    -- After this an attempt that fails is the last.
    retry_until  timestamptz NOT NULL,
    attempts     integer NOT NULL DEFAULT 0,
    -- Of the last claim; who holds an older one can write nothing more.
    claim_token  bigint,
    claimed_by   text,
    last_status  integer,
    last_error   text,
    delivered_at timestamptz,
    dead_at      timestamptz,
    dead_reason  text,
    CHECK (delivered_at IS NULL OR dead_at IS NULL),
    -- A run ends once, so it is reported once.
    CONSTRAINT outbox_run UNIQUE (run_id)
);
CREATE INDEX outbox_due ON outbox (available_at) WHERE delivered_at IS NULL AND dead_at IS NULL;
CREATE INDEX outbox_dead ON outbox (dead_at) WHERE dead_at IS NOT NULL;
CREATE INDEX outbox_delivered ON outbox (delivered_at) WHERE delivered_at IS NOT NULL;
