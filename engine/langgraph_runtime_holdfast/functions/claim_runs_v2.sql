-- Claims due runs, oldest first, whose thread is free: none of its runs is running and none is before them.
CREATE FUNCTION claim_runs_v2(most integer, worker text, lease_seconds float8, may_suspect boolean)
RETURNS TABLE (
    run_id uuid, thread_id uuid, assistant_id uuid, created_at timestamptz, updated_at timestamptz, status text,
    metadata jsonb, kwargs json, multitask_strategy text, langsmith_session_name text, lease_token bigint,
    attempt integer, first_error text, cancel_action text, cancel_reason text, listener text, deaths integer,
    on_new_thread boolean
) LANGUAGE plpgsql SET enable_seqscan = off SET enable_sort = off SET enable_bitmapscan = off AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    WITH due AS (
        SELECT flight.run_id FROM run_inflight AS flight
        WHERE flight.status = 'pending' AND flight.available_at <= now()
          -- Those behind a run that runs may be thousands, and those that run are few: looked up in memory.
          AND flight.thread_id NOT IN (
              SELECT busy.thread_id FROM run_inflight AS busy WHERE busy.status = 'running'
          ) AND (
            -- Not EXISTS: it becomes a join, which reads all runs in flight for each when statistics are old.
            SELECT true FROM run_inflight AS other
            WHERE other.thread_id = flight.thread_id
              AND (other.created_at, other.run_id) < (flight.created_at, flight.run_id)
            LIMIT 1
        ) IS NULL
        -- A run that may be what kills its workers is worked on with no other such run beside it.
        AND (flight.deaths < 2 OR flight.run_id = (
            SELECT suspect.run_id FROM run_inflight AS suspect
            WHERE may_suspect AND suspect.status = 'pending' AND suspect.deaths >= 2 AND suspect.available_at <= now()
            ORDER BY suspect.available_at, suspect.run_id LIMIT 1
        ))
        ORDER BY flight.created_at, flight.run_id
        LIMIT most
        FOR UPDATE SKIP LOCKED
    ), claimed AS (
        UPDATE run_inflight AS flight SET status = 'running', attempt = flight.attempt + 1,
            lease_token = nextval('lease_token'), leased_by = worker,
            leased_until = now() + make_interval(secs => lease_seconds)
        FROM due WHERE flight.run_id = due.run_id
        RETURNING flight.*
    )
    SELECT run.run_id, run.thread_id, run.assistant_id, run.created_at, claimed.updated_at, claimed.status,
           run.metadata, run.kwargs, run.multitask_strategy, run.langsmith_session_name, claimed.lease_token,
           claimed.attempt, claimed.first_error, claimed.cancel_action, claimed.cancel_reason, claimed.listener,
           claimed.deaths,
           NOT EXISTS (SELECT FROM checkpoints WHERE checkpoints.thread_id = run.thread_id::text)
    FROM claimed JOIN run ON run.run_id = claimed.run_id
    ORDER BY claimed.created_at, claimed.run_id;
END $$;
