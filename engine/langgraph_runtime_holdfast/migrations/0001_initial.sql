-- Assistants, threads, runs, crons. Checkpoints and the store have tables of their own, made by their libraries.
-- Down: drop table cron, run_result, run, thread, assistant_version, assistant; drop sequence lease_token; drop function require_lease;

CREATE TABLE assistant (
    assistant_id uuid PRIMARY KEY,
    graph_id     text NOT NULL,
    name         text NOT NULL,
    description  text,
    version      integer NOT NULL DEFAULT 1,
    config       jsonb NOT NULL DEFAULT '{}',
    context      jsonb NOT NULL DEFAULT '{}',
    metadata     jsonb NOT NULL DEFAULT '{}',
    created_at   timestamptz NOT NULL DEFAULT now(),
    updated_at   timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX assistant_graph ON assistant (graph_id, created_at DESC);
CREATE INDEX assistant_created ON assistant (created_at DESC);
CREATE INDEX assistant_metadata ON assistant USING gin (metadata jsonb_path_ops);

CREATE TABLE assistant_version (
    assistant_id uuid NOT NULL REFERENCES assistant ON DELETE CASCADE,
    version      integer NOT NULL,
    graph_id     text NOT NULL,
    name         text NOT NULL,
    description  text,
    config       jsonb NOT NULL DEFAULT '{}',
    context      jsonb NOT NULL DEFAULT '{}',
    metadata     jsonb NOT NULL DEFAULT '{}',
    created_at   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (assistant_id, version)
);

CREATE TABLE thread (
    thread_id        uuid PRIMARY KEY,
    status           text NOT NULL DEFAULT 'idle' CHECK (status IN ('idle', 'busy', 'interrupted', 'error')),
    metadata         jsonb NOT NULL DEFAULT '{}',
    config           jsonb NOT NULL DEFAULT '{}',
    "values"         jsonb,
    interrupts       jsonb NOT NULL DEFAULT '{}',
    error            jsonb,
    created_at       timestamptz NOT NULL DEFAULT now(),
    updated_at       timestamptz NOT NULL DEFAULT now(),
    state_updated_at timestamptz NOT NULL DEFAULT now(),
    -- When the sweep may take it, and what it does then; null: never.
    ttl_minutes      double precision,
    ttl_strategy     text CHECK (ttl_strategy IN ('delete', 'keep_latest')),
    expires_at       timestamptz
);
-- One for each order a search may have; thread_id makes pages stable.
CREATE INDEX thread_updated ON thread (updated_at, thread_id);
CREATE INDEX thread_created ON thread (created_at, thread_id);
CREATE INDEX thread_state_updated ON thread (state_updated_at, thread_id);
CREATE INDEX thread_status ON thread (status, updated_at, thread_id);
CREATE INDEX thread_metadata ON thread USING gin (metadata jsonb_path_ops);
CREATE INDEX thread_values ON thread USING gin ("values" jsonb_path_ops);
CREATE INDEX thread_expires ON thread (expires_at) WHERE expires_at IS NOT NULL;

CREATE TABLE run (
    run_id             uuid PRIMARY KEY,
    thread_id          uuid NOT NULL REFERENCES thread ON DELETE CASCADE,
    assistant_id       uuid NOT NULL,
    status             text NOT NULL DEFAULT 'pending'
                       CHECK (status IN ('pending', 'running', 'success', 'error', 'timeout', 'interrupted')),
    metadata           jsonb NOT NULL DEFAULT '{}',
    -- Not searched, so not jsonb: kept as it came, which also costs less to write.
    kwargs             json NOT NULL,
    multitask_strategy text NOT NULL,
    langsmith_session_name text,
    -- Includes after_seconds: a run is due from its created_at on, as the API has it.
    created_at         timestamptz NOT NULL DEFAULT now(),
    updated_at         timestamptz NOT NULL DEFAULT now(),
    -- When it may be claimed: created_at, or later while a retry backs off.
    available_at       timestamptz NOT NULL DEFAULT now(),
    -- The lease. The token rises with each claim; who holds an old one can write nothing more.
    attempt            integer NOT NULL DEFAULT 0,
    lease_token        bigint,
    leased_by          text,
    leased_until       timestamptz,
    -- A wish to end it, for a worker that missed the signal.
    cancel_action      text CHECK (cancel_action IN ('interrupt', 'rollback')),
    cancel_reason      text,
    -- The cause of the first attempt that failed, which a later "too many attempts" must not hide.
    first_error        text
);
CREATE SEQUENCE lease_token;
CREATE INDEX run_thread ON run (thread_id, created_at DESC);
-- The queue: oldest first.
CREATE INDEX run_due ON run (created_at, run_id) WHERE status = 'pending';
-- What goes on in a thread, and which of its runs is next.
CREATE INDEX run_inflight ON run (thread_id, created_at, run_id) WHERE status IN ('pending', 'running');
CREATE INDEX run_lease ON run (leased_until) WHERE status = 'running';
-- Two workers can never run the same thread at once, whatever else goes wrong.
CREATE UNIQUE INDEX run_one_at_a_time ON run (thread_id) WHERE status = 'running';

-- Fails unless the caller still has its lease, and keeps the run from being deleted until the transaction ends.
-- An error instead of a result, so that what is written after it need not wait for the answer.
CREATE FUNCTION require_lease(held_run uuid, held_token bigint) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM 1 FROM run
    WHERE run_id = held_run AND lease_token = held_token AND status = 'running' FOR KEY SHARE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'the lease of run % is lost', held_run USING ERRCODE = 'HF001';
    END IF;
END $$;

-- The result of a stateless run, whose thread is gone, when Valkey lost its events. Swept after some minutes.
CREATE TABLE run_result (
    run_id     uuid PRIMARY KEY,
    event      text NOT NULL,
    payload    text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX run_result_created ON run_result (created_at);

CREATE TABLE cron (
    cron_id          uuid PRIMARY KEY,
    assistant_id     uuid NOT NULL REFERENCES assistant ON DELETE CASCADE,
    thread_id        uuid REFERENCES thread ON DELETE CASCADE,
    user_id          text,
    schedule         text NOT NULL,
    timezone         text,
    end_time         timestamptz,
    payload          json NOT NULL,
    metadata         jsonb NOT NULL DEFAULT '{}',
    on_run_completed text CHECK (on_run_completed IN ('delete', 'keep')),
    enabled          boolean NOT NULL DEFAULT true,
    next_run_date    timestamptz NOT NULL,
    created_at       timestamptz NOT NULL DEFAULT now(),
    updated_at       timestamptz NOT NULL DEFAULT now(),
    -- A scheduler that looks at it holds it until then, so that the others need not.
    claimed_until    timestamptz
);
CREATE INDEX cron_due ON cron (next_run_date) WHERE enabled;
CREATE INDEX cron_assistant ON cron (assistant_id, created_at DESC);
CREATE INDEX cron_thread ON cron (thread_id) WHERE thread_id IS NOT NULL;
CREATE INDEX cron_metadata ON cron USING gin (metadata jsonb_path_ops);
