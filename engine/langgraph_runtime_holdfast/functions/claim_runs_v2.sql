-- Claims due runs, oldest first, whose thread is free: none of its runs is running and none is before them.
-- A few threads may have thousands of runs each that wait behind their first one. Then it does not walk by all of
-- them, but from thread to thread: the first run of each is found in the index by a step.
CREATE FUNCTION claim_runs_v2(most integer, worker text, lease_seconds float8, may_suspect boolean)
RETURNS TABLE (
    run_id uuid, thread_id uuid, assistant_id uuid, created_at timestamptz, updated_at timestamptz, status text,
    metadata jsonb, kwargs json, multitask_strategy text, langsmith_session_name text, lease_token bigint,
    attempt integer, first_error text, cancel_action text, cancel_reason text, listener text, deaths integer,
    on_new_thread boolean
) LANGUAGE plpgsql SET enable_seqscan = off SET enable_sort = off SET enable_bitmapscan = off AS $$
#variable_conflict use_column
DECLARE
    -- How much of the queue is looked at first.
    window_size CONSTANT integer := 200;
    due uuid[];
    busy uuid[];
    suspect uuid;
    window_end timestamptz;
    threads integer;
BEGIN
    -- Those that run are few.
    busy := ARRAY(SELECT flight.thread_id FROM run_inflight AS flight WHERE flight.status = 'running');
    -- A run that may be what kills its workers is worked on with no other such run beside it.
    IF may_suspect THEN
        SELECT flight.run_id INTO suspect FROM run_inflight AS flight
        WHERE flight.status = 'pending' AND flight.deaths >= 2 AND flight.available_at <= now()
        ORDER BY flight.available_at, flight.run_id LIMIT 1;
    END IF;
    SELECT flight.created_at INTO window_end FROM run_inflight AS flight WHERE flight.status = 'pending'
    ORDER BY flight.created_at, flight.run_id OFFSET window_size LIMIT 1;
    due := ARRAY(
        SELECT flight.run_id FROM run_inflight AS flight
        WHERE flight.status = 'pending' AND flight.available_at <= now()
          AND flight.created_at <= coalesce(window_end, 'infinity')
          AND flight.thread_id <> ALL (busy)
          AND (flight.deaths < 2 OR flight.run_id = suspect)
          AND (
            -- Not EXISTS: it becomes a join, which reads all runs in flight for each when statistics are old.
            SELECT true FROM run_inflight AS other
            WHERE other.thread_id = flight.thread_id
              AND (other.created_at, other.run_id) < (flight.created_at, flight.run_id)
            LIMIT 1
        ) IS NULL
        ORDER BY flight.created_at, flight.run_id
        LIMIT most
        FOR UPDATE SKIP LOCKED
    );
    IF cardinality(due) < most AND window_end IS NOT NULL THEN
        SELECT count(DISTINCT first.thread_id) INTO threads FROM (
            SELECT flight.thread_id FROM run_inflight AS flight WHERE flight.status = 'pending'
            ORDER BY flight.created_at, flight.run_id LIMIT window_size
        ) AS first;
        IF threads * 2 <= window_size THEN
            due := due || ARRAY(
                WITH RECURSIVE head AS (
                    (SELECT first.run_id, first.thread_id FROM run_inflight AS first
                     ORDER BY first.thread_id, first.created_at, first.run_id LIMIT 1)
                    UNION ALL
                    SELECT following.* FROM head, LATERAL (
                        SELECT first.run_id, first.thread_id FROM run_inflight AS first
                        WHERE first.thread_id > head.thread_id
                        ORDER BY first.thread_id, first.created_at, first.run_id LIMIT 1
                    ) AS following
                )
                SELECT flight.run_id FROM head JOIN run_inflight AS flight ON flight.run_id = head.run_id
                -- Both computed, so that the index of the queue cannot be used, all of which it would walk by.
                WHERE flight.status || '' = 'pending' AND flight.available_at <= now()
                  AND flight.thread_id <> ALL (busy) AND flight.run_id <> ALL (due)
                  AND (flight.deaths < 2 OR flight.run_id = suspect)
                ORDER BY flight.created_at + interval '0', flight.run_id
                LIMIT most - cardinality(due)
                FOR UPDATE OF flight SKIP LOCKED
            );
        ELSE
            -- Many threads, whose first runs back off: those behind them are walked by.
            due := due || ARRAY(
                SELECT flight.run_id FROM run_inflight AS flight
                WHERE flight.status = 'pending' AND flight.available_at <= now()
                  AND flight.created_at > window_end
                  AND flight.thread_id <> ALL (busy)
                  AND (flight.deaths < 2 OR flight.run_id = suspect)
                  AND (
                    SELECT true FROM run_inflight AS other
                    WHERE other.thread_id = flight.thread_id
                      AND (other.created_at, other.run_id) < (flight.created_at, flight.run_id)
                    LIMIT 1
                ) IS NULL
                ORDER BY flight.created_at, flight.run_id
                LIMIT most - cardinality(due)
                FOR UPDATE SKIP LOCKED
            );
        END IF;
    END IF;
    RETURN QUERY
    WITH claimed AS (
        UPDATE run_inflight AS flight SET status = 'running', attempt = flight.attempt + 1,
            lease_token = nextval('lease_token'), leased_by = worker,
            leased_until = now() + make_interval(secs => lease_seconds)
        WHERE flight.run_id = ANY (due)
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
