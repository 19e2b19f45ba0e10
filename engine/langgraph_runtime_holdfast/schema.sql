-- What the migrations make, with the libraries' tables and all functions, as pg_dump shows it. Made by
-- `python -m langgraph_runtime_holdfast.schema_snapshot`; a test compares it.

CREATE FUNCTION add_run(added uuid, its_thread uuid, seen text, its_assistant uuid, assistant_seen text, run_status text, run_metadata jsonb, run_kwargs json, strategy text, session_name text, after_seconds double precision, its_listener text, reject_if_inflight boolean, occupies boolean, new_metadata jsonb, new_config jsonb, minutes double precision, ttl text) RETURNS TABLE(is_stale boolean, run_id uuid, thread_id uuid, assistant_id uuid, created_at timestamp with time zone, updated_at timestamp with time zone, status text, metadata jsonb, kwargs json, multitask_strategy text, langsmith_session_name text)
    LANGUAGE plpgsql
    AS $$
#variable_conflict use_column
DECLARE
    content text;
BEGIN
    IF seen IS NOT NULL THEN
        SELECT thread_content(thread.metadata, thread.config) INTO content
        FROM thread WHERE thread_id = its_thread AND thread.xmin::text = seen FOR NO KEY UPDATE;
        content := coalesce(content, 'another');
    END IF;
    RETURN QUERY SELECT * FROM add_run_v2(
        added, its_thread, content, NULL, its_assistant, assistant_seen, run_status, run_metadata, run_kwargs,
        strategy, session_name, after_seconds, its_listener, reject_if_inflight, new_metadata, new_config, minutes, ttl
    );
END $$;

CREATE FUNCTION add_run_v2(added uuid, its_thread uuid, seen text, seen_busy boolean, its_assistant uuid, assistant_seen text, run_status text, run_metadata jsonb, run_kwargs json, strategy text, session_name text, after_seconds double precision, its_listener text, reject_if_inflight boolean, new_metadata jsonb, new_config jsonb, minutes double precision, ttl text) RETURNS TABLE(is_stale boolean, run_id uuid, thread_id uuid, assistant_id uuid, created_at timestamp with time zone, updated_at timestamp with time zone, status text, metadata jsonb, kwargs json, multitask_strategy text, langsmith_session_name text)
    LANGUAGE plpgsql
    SET enable_seqscan TO 'off'
    AS $$
#variable_conflict use_column
DECLARE
    is_refused boolean := false;
    is_new boolean := seen IS NULL;
    holds boolean;
    is_busy boolean;
    due timestamptz;
BEGIN
    IF is_new THEN
        INSERT INTO thread (thread_id, status, metadata, config, ttl_minutes, ttl_strategy, expires_at)
        VALUES (its_thread, 'busy', new_metadata, new_config, minutes, ttl, now() + minutes * interval '1 minute')
        ON CONFLICT (thread_id) DO NOTHING;
        holds := FOUND;
    ELSE
        SELECT thread_content(thread.metadata, thread.config) = seen
               AND (seen_busy IS NULL OR seen_busy = (thread.status = 'busy')), thread.status = 'busy'
        INTO holds, is_busy FROM thread WHERE thread_id = its_thread FOR NO KEY UPDATE;
    END IF;
    IF EXISTS (SELECT FROM run WHERE run_id = added) THEN
        NULL;  -- By an earlier call, whose answer was lost.
    ELSIF holds IS NOT TRUE THEN
        RETURN QUERY SELECT true, added, its_thread, its_assistant, now(), now(), run_status, run_metadata,
            run_kwargs, strategy, session_name;
        RETURN;
    ELSIF reject_if_inflight AND EXISTS (SELECT FROM run_inflight WHERE thread_id = its_thread) THEN
        is_refused := true;
    ELSE
        -- The clock, not the transaction's beginning: runs are in the order in which they got the thread's lock. After
        -- a failover the clock may be behind; nobody overtakes for that.
        due := clock_timestamp() + make_interval(secs => after_seconds);
        IF after_seconds <= 0 AND NOT is_new THEN
            due := greatest(due, interval '1 microsecond' + (
                SELECT created_at FROM run_inflight WHERE thread_id = its_thread AND NOT is_delayed
                ORDER BY created_at DESC, run_id DESC LIMIT 1
            ));
        END IF;
        INSERT INTO run (run_id, thread_id, assistant_id, status, metadata, kwargs, multitask_strategy,
                         langsmith_session_name, created_at, updated_at)
        SELECT added, its_thread, assistant_id, run_status, run_metadata, run_kwargs, strategy, session_name,
               due, clock_timestamp()
        FROM assistant WHERE assistant_id = its_assistant AND assistant.xmin::text = assistant_seen FOR KEY SHARE;
        IF NOT FOUND THEN
            IF EXISTS (SELECT FROM assistant WHERE assistant_id = its_assistant) THEN
                RAISE EXCEPTION 'assistant % has changed', its_assistant USING ERRCODE = 'HF003';
            END IF;
            RAISE EXCEPTION 'assistant % is gone', its_assistant USING ERRCODE = 'HF002';
        END IF;
        INSERT INTO run_inflight (run_id, thread_id, created_at, updated_at, is_delayed, available_at, listener)
        VALUES (added, its_thread, due, clock_timestamp(), after_seconds > 0,
                CASE WHEN after_seconds > 0 THEN due ELSE '-infinity' END, its_listener);
        IF NOT is_busy THEN
            UPDATE thread SET status = 'busy', metadata = coalesce(new_metadata, thread.metadata),
                config = coalesce(new_config, config), updated_at = now(),
                expires_at = now() + ttl_minutes * interval '1 minute'
            WHERE thread_id = its_thread;
        END IF;
    END IF;
    IF NOT is_refused THEN
        RETURN QUERY
            SELECT false, run.run_id, run.thread_id, run.assistant_id, run.created_at, run.updated_at, run.status,
                   run.metadata, run.kwargs, run.multitask_strategy, run.langsmith_session_name
            FROM run_shown AS run WHERE run.run_id = added;
    END IF;
    IF is_refused OR strategy IN ('interrupt', 'rollback') THEN
        RETURN QUERY
            SELECT false, run.run_id, run.thread_id, run.assistant_id, run.created_at, flight.updated_at,
                   flight.status, run.metadata, NULL::json, run.multitask_strategy, run.langsmith_session_name
            FROM run_inflight AS flight JOIN run ON run.run_id = flight.run_id
            WHERE flight.thread_id = its_thread AND flight.run_id <> added
            ORDER BY flight.created_at, flight.run_id LIMIT CASE WHEN is_refused THEN 1 END;
    END IF;
END $$;

CREATE FUNCTION add_run_v3(added uuid, its_thread uuid, seen text, seen_busy boolean, its_assistant uuid, assistant_seen text, run_status text, run_metadata jsonb, run_kwargs json, strategy text, session_name text, after_seconds double precision, its_listener text, reject_if_inflight boolean, new_metadata jsonb, new_config jsonb, minutes double precision, ttl text) RETURNS TABLE(is_stale boolean, run_id uuid, thread_id uuid, assistant_id uuid, created_at timestamp with time zone, updated_at timestamp with time zone, status text, metadata jsonb, kwargs json, multitask_strategy text, langsmith_session_name text)
    LANGUAGE plpgsql
    SET enable_seqscan TO 'off'
    AS $$
#variable_conflict use_column
DECLARE
    is_refused boolean := false;
    is_new boolean := seen IS NULL;
    holds boolean;
    is_busy boolean;
    due timestamptz;
BEGIN
    IF is_new THEN
        INSERT INTO thread (thread_id, status, metadata, config, ttl_minutes, ttl_strategy, expires_at)
        VALUES (its_thread, 'busy', new_metadata, new_config, minutes, ttl, now() + minutes * interval '1 minute')
        ON CONFLICT (thread_id) DO NOTHING;
        holds := FOUND;
    ELSE
        SELECT thread_content_v2(thread.metadata, thread.config) = seen
               AND (seen_busy IS NULL OR seen_busy = (thread.status = 'busy')), thread.status = 'busy'
        INTO holds, is_busy FROM thread WHERE thread_id = its_thread FOR NO KEY UPDATE;
    END IF;
    IF EXISTS (SELECT FROM run WHERE run_id = added) THEN
        NULL;  -- By an earlier call, whose answer was lost.
    ELSIF holds IS NOT TRUE THEN
        RETURN QUERY SELECT true, added, its_thread, its_assistant, now(), now(), run_status, run_metadata,
            run_kwargs, strategy, session_name;
        RETURN;
    ELSIF reject_if_inflight AND EXISTS (SELECT FROM run_inflight WHERE thread_id = its_thread) THEN
        is_refused := true;
    ELSE
        -- The clock, not the transaction's beginning: runs are in the order in which they got the thread's lock. After
        -- a failover the clock may be behind; nobody overtakes for that.
        due := clock_timestamp() + make_interval(secs => after_seconds);
        IF after_seconds <= 0 AND NOT is_new THEN
            due := greatest(due, interval '1 microsecond' + (
                SELECT created_at FROM run_inflight WHERE thread_id = its_thread AND NOT is_delayed
                ORDER BY created_at DESC, run_id DESC LIMIT 1
            ));
        END IF;
        INSERT INTO run (run_id, thread_id, assistant_id, status, metadata, kwargs, multitask_strategy,
                         langsmith_session_name, created_at, updated_at)
        SELECT added, its_thread, assistant_id, run_status, run_metadata, run_kwargs, strategy, session_name,
               due, clock_timestamp()
        FROM assistant WHERE assistant_id = its_assistant AND assistant.xmin::text = assistant_seen FOR KEY SHARE;
        IF NOT FOUND THEN
            IF EXISTS (SELECT FROM assistant WHERE assistant_id = its_assistant) THEN
                RAISE EXCEPTION 'assistant % has changed', its_assistant USING ERRCODE = 'HF003';
            END IF;
            RAISE EXCEPTION 'assistant % is gone', its_assistant USING ERRCODE = 'HF002';
        END IF;
        INSERT INTO run_inflight (run_id, thread_id, created_at, updated_at, is_delayed, available_at, listener)
        VALUES (added, its_thread, due, clock_timestamp(), after_seconds > 0,
                CASE WHEN after_seconds > 0 THEN due ELSE '-infinity' END, its_listener);
        IF NOT is_busy THEN
            UPDATE thread SET status = 'busy', metadata = coalesce(new_metadata, thread.metadata),
                config = coalesce(new_config, config), updated_at = now(),
                expires_at = now() + ttl_minutes * interval '1 minute'
            WHERE thread_id = its_thread;
        END IF;
    END IF;
    IF NOT is_refused THEN
        RETURN QUERY
            SELECT false, run.run_id, run.thread_id, run.assistant_id, run.created_at, run.updated_at, run.status,
                   run.metadata, run.kwargs, run.multitask_strategy, run.langsmith_session_name
            FROM run_shown AS run WHERE run.run_id = added;
    END IF;
    IF is_refused OR strategy IN ('interrupt', 'rollback') THEN
        RETURN QUERY
            SELECT false, run.run_id, run.thread_id, run.assistant_id, run.created_at, flight.updated_at,
                   flight.status, run.metadata, NULL::json, run.multitask_strategy, run.langsmith_session_name
            FROM run_inflight AS flight JOIN run ON run.run_id = flight.run_id
            WHERE flight.thread_id = its_thread AND flight.run_id <> added
            ORDER BY flight.created_at, flight.run_id LIMIT CASE WHEN is_refused THEN 1 END;
    END IF;
END $$;

CREATE FUNCTION claim_runs(most integer, worker text, lease_seconds double precision, may_suspect boolean) RETURNS TABLE(run_id uuid, thread_id uuid, assistant_id uuid, created_at timestamp with time zone, updated_at timestamp with time zone, status text, metadata jsonb, kwargs json, multitask_strategy text, langsmith_session_name text, lease_token bigint, attempt integer, first_error text, cancel_action text, cancel_reason text, listener text, deaths integer, on_new_thread boolean)
    LANGUAGE plpgsql
    SET enable_seqscan TO 'off'
    SET enable_sort TO 'off'
    SET enable_bitmapscan TO 'off'
    AS $$
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

CREATE FUNCTION claim_runs_v2(most integer, worker text, lease_seconds double precision, may_suspect boolean) RETURNS TABLE(run_id uuid, thread_id uuid, assistant_id uuid, created_at timestamp with time zone, updated_at timestamp with time zone, status text, metadata jsonb, kwargs json, multitask_strategy text, langsmith_session_name text, lease_token bigint, attempt integer, first_error text, cancel_action text, cancel_reason text, listener text, deaths integer, on_new_thread boolean)
    LANGUAGE plpgsql
    SET enable_seqscan TO 'off'
    SET enable_sort TO 'off'
    SET enable_bitmapscan TO 'off'
    AS $$
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

CREATE FUNCTION end_run(ended uuid, held_token bigint, run_status text, its_thread uuid, new_status text, new_error jsonb, more_metadata jsonb, has_checkpoint boolean, new_values jsonb, new_interrupts jsonb, saved jsonb, blobs bytea[]) RETURNS boolean
    LANGUAGE plpgsql
    SET enable_seqscan TO 'off'
    AS $$
DECLARE
    flight run_inflight;
BEGIN
    -- The thread is locked first, as everywhere.
    PERFORM 1 FROM thread WHERE thread_id = its_thread FOR NO KEY UPDATE;
    -- Its last checkpoints, unless it has this end already.
    IF saved IS NOT NULL AND EXISTS (
        SELECT FROM run_inflight WHERE run_id = ended AND lease_token = held_token AND status = 'running'
    ) THEN
        PERFORM save_checkpoints(ended, held_token, saved, blobs);
    END IF;
    DELETE FROM run_inflight
    WHERE run_id = ended AND thread_id = its_thread
      AND (held_token IS NULL OR (lease_token = held_token AND status = 'running'))
    RETURNING * INTO flight;
    IF NOT FOUND AND held_token IS NOT NULL THEN
        IF NOT EXISTS (SELECT FROM run WHERE run_id = ended AND lease_token = held_token AND status = run_status) THEN
            RETURN NULL;
        END IF;
    ELSE
        IF run_status = 'rollback' THEN
            DELETE FROM run WHERE run_id = ended AND thread_id = its_thread;
        ELSE
            UPDATE run SET status = run_status, updated_at = now(), attempt = coalesce(flight.attempt, attempt),
                lease_token = coalesce(flight.lease_token, lease_token),
                first_error = coalesce(flight.first_error, first_error)
            WHERE run_id = ended AND thread_id = its_thread;
        END IF;
        IF NOT FOUND THEN
            RETURN NULL;
        END IF;
        PERFORM set_thread_state(
            its_thread, new_status, new_error, more_metadata, has_checkpoint, new_values, new_interrupts
        );
    END IF;
    RETURN EXISTS (SELECT FROM run_inflight WHERE thread_id = its_thread);
END $$;

CREATE FUNCTION end_run_v2(ended uuid, held_token bigint, run_status text, its_thread uuid, new_status text, new_error jsonb, more_metadata jsonb, has_checkpoint boolean, new_values jsonb, new_interrupts jsonb, saved jsonb, blobs bytea[]) RETURNS boolean
    LANGUAGE plpgsql
    SET enable_seqscan TO 'off'
    AS $$
DECLARE
    flight run_inflight;
BEGIN
    -- The thread is locked first, as everywhere.
    PERFORM 1 FROM thread WHERE thread_id = its_thread FOR NO KEY UPDATE;
    -- Its last checkpoints, unless it has this end already.
    IF saved IS NOT NULL AND EXISTS (
        SELECT FROM run_inflight WHERE run_id = ended AND lease_token = held_token AND status = 'running'
    ) THEN
        PERFORM save_checkpoints_v2(ended, held_token, saved, blobs);
    END IF;
    DELETE FROM run_inflight
    WHERE run_id = ended AND thread_id = its_thread
      AND (held_token IS NULL OR (lease_token = held_token AND status = 'running'))
    RETURNING * INTO flight;
    IF NOT FOUND AND held_token IS NOT NULL THEN
        IF NOT EXISTS (SELECT FROM run WHERE run_id = ended AND lease_token = held_token AND status = run_status) THEN
            RETURN NULL;
        END IF;
    ELSE
        IF run_status = 'rollback' THEN
            DELETE FROM run WHERE run_id = ended AND thread_id = its_thread;
        ELSE
            UPDATE run SET status = run_status, updated_at = now(), attempt = coalesce(flight.attempt, attempt),
                lease_token = coalesce(flight.lease_token, lease_token),
                first_error = coalesce(flight.first_error, first_error)
            WHERE run_id = ended AND thread_id = its_thread;
        END IF;
        IF NOT FOUND THEN
            RETURN NULL;
        END IF;
        PERFORM set_thread_state_v2(
            its_thread, new_status, new_error, more_metadata, has_checkpoint, new_values, new_interrupts
        );
    END IF;
    RETURN EXISTS (SELECT FROM run_inflight WHERE thread_id = its_thread);
END $$;

CREATE FUNCTION keep_thread_search() RETURNS trigger
    LANGUAGE plpgsql
    SET enable_seqscan TO 'off'
    AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        INSERT INTO thread_order
        VALUES (NEW.thread_id, NEW.status, NEW.updated_at, NEW.state_updated_at, NEW.expires_at);
        INSERT INTO thread_metadata VALUES (NEW.thread_id, NEW.metadata);
    ELSIF TG_OP = 'UPDATE' THEN
        UPDATE thread_order SET status = NEW.status, updated_at = NEW.updated_at,
            state_updated_at = NEW.state_updated_at, expires_at = NEW.expires_at
        WHERE thread_id = NEW.thread_id;
        IF NEW.metadata <> OLD.metadata THEN
            UPDATE thread_metadata SET metadata = NEW.metadata WHERE thread_id = NEW.thread_id;
        END IF;
    ELSE
        DELETE FROM thread_order WHERE thread_id = OLD.thread_id;
        DELETE FROM thread_metadata WHERE thread_id = OLD.thread_id;
    END IF;
    RETURN NULL;
END $$;

CREATE FUNCTION may_save_after_v1(held_run uuid, held_token bigint, after_thread text, after_ns text, after_id text) RETURNS boolean
    LANGUAGE plpgsql STABLE
    SET enable_seqscan TO 'off'
    AS $$
BEGIN
    RETURN after_id IS NULL OR EXISTS (
        SELECT FROM checkpoints
        WHERE thread_id = after_thread AND checkpoint_ns = after_ns AND checkpoint_id = after_id
    ) OR NOT EXISTS (
        SELECT FROM run_inflight
        WHERE run_id = held_run AND lease_token = held_token AND status = 'running'
    );
END $$;

CREATE FUNCTION require_lease(held_run uuid, held_token bigint) RETURNS void
    LANGUAGE plpgsql
    SET enable_seqscan TO 'off'
    AS $$
BEGIN
    PERFORM 1 FROM run_inflight
    WHERE run_id = held_run AND lease_token = held_token AND status = 'running' FOR KEY SHARE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'the lease of run % is lost', held_run USING ERRCODE = 'HF001';
    END IF;
END $$;

CREATE FUNCTION require_lease_v2(held_run uuid, held_token bigint) RETURNS void
    LANGUAGE plpgsql
    SET enable_seqscan TO 'off'
    AS $$
BEGIN
    PERFORM 1 FROM run_inflight
    WHERE run_id = held_run AND lease_token = held_token AND status = 'running' FOR KEY SHARE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'the lease of run % is lost', held_run USING ERRCODE = 'HF001';
    END IF;
END $$;

CREATE FUNCTION save_checkpoints(held_run uuid, held_token bigint, saved jsonb, blobs bytea[]) RETURNS void
    LANGUAGE plpgsql
    AS $$
BEGIN
    IF held_run IS NOT NULL THEN
        PERFORM require_lease(held_run, held_token);
    END IF;
    IF saved ? 'blobs' THEN
        INSERT INTO checkpoint_blobs (thread_id, checkpoint_ns, channel, version, type, blob)
        SELECT thread_id, checkpoint_ns, channel, version, type, blobs[at]
        FROM jsonb_to_recordset(saved -> 'blobs')
            AS row (thread_id text, checkpoint_ns text, channel text, version text, type text, at integer)
        ON CONFLICT (thread_id, checkpoint_ns, channel, version) DO NOTHING;
    END IF;
    IF saved ? 'checkpoints' THEN
        INSERT INTO checkpoints (thread_id, checkpoint_ns, checkpoint_id, parent_checkpoint_id, checkpoint, metadata)
        SELECT thread_id, checkpoint_ns, checkpoint_id, parent, checkpoint, metadata
        FROM jsonb_to_recordset(saved -> 'checkpoints')
            AS row (thread_id text, checkpoint_ns text, checkpoint_id text, parent text, checkpoint jsonb, metadata jsonb)
        ON CONFLICT (thread_id, checkpoint_ns, checkpoint_id)
        DO UPDATE SET checkpoint = EXCLUDED.checkpoint, metadata = EXCLUDED.metadata;
    END IF;
    IF saved ? 'writes' THEN
        -- What a task has written stays as it was written first.
        INSERT INTO checkpoint_writes (thread_id, checkpoint_ns, checkpoint_id, task_id, task_path, idx, channel,
                                       type, blob, written_by_run)
        SELECT thread_id, checkpoint_ns, checkpoint_id, task_id, task_path, idx, channel, type, blobs[at], run
        FROM jsonb_to_recordset(saved -> 'writes')
            AS row (thread_id text, checkpoint_ns text, checkpoint_id text, task_id text, task_path text,
                    idx integer, channel text, type text, at integer, run text)
        ON CONFLICT (thread_id, checkpoint_ns, checkpoint_id, task_id, idx) DO NOTHING;
    END IF;
    IF saved ? 'rewrites' THEN
        -- Except errors, interrupts and the like, whose last word counts.
        INSERT INTO checkpoint_writes (thread_id, checkpoint_ns, checkpoint_id, task_id, task_path, idx, channel,
                                       type, blob, written_by_run)
        SELECT thread_id, checkpoint_ns, checkpoint_id, task_id, task_path, idx, channel, type, blobs[at], run
        FROM jsonb_to_recordset(saved -> 'rewrites')
            AS row (thread_id text, checkpoint_ns text, checkpoint_id text, task_id text, task_path text,
                    idx integer, channel text, type text, at integer, run text)
        ON CONFLICT (thread_id, checkpoint_ns, checkpoint_id, task_id, idx)
        DO UPDATE SET channel = EXCLUDED.channel, type = EXCLUDED.type, blob = EXCLUDED.blob;
    END IF;
END $$;

CREATE FUNCTION save_checkpoints_v2(held_run uuid, held_token bigint, saved jsonb, blobs bytea[]) RETURNS void
    LANGUAGE plpgsql
    AS $$
BEGIN
    IF held_run IS NOT NULL THEN
        PERFORM require_lease_v2(held_run, held_token);
    END IF;
    IF saved ? 'blobs' THEN
        INSERT INTO checkpoint_blobs (thread_id, checkpoint_ns, channel, version, type, blob)
        SELECT thread_id, checkpoint_ns, channel, version, type, blobs[at]
        FROM jsonb_to_recordset(saved -> 'blobs')
            AS row (thread_id text, checkpoint_ns text, channel text, version text, type text, at integer)
        ON CONFLICT (thread_id, checkpoint_ns, channel, version) DO NOTHING;
    END IF;
    IF saved ? 'checkpoints' THEN
        INSERT INTO checkpoints (thread_id, checkpoint_ns, checkpoint_id, parent_checkpoint_id, checkpoint, metadata)
        SELECT thread_id, checkpoint_ns, checkpoint_id, parent, checkpoint, metadata
        FROM jsonb_to_recordset(saved -> 'checkpoints')
            AS row (thread_id text, checkpoint_ns text, checkpoint_id text, parent text, checkpoint jsonb, metadata jsonb)
        ON CONFLICT (thread_id, checkpoint_ns, checkpoint_id)
        DO UPDATE SET checkpoint = EXCLUDED.checkpoint, metadata = EXCLUDED.metadata;
    END IF;
    IF saved ? 'writes' THEN
        -- What a task has written stays as it was written first.
        INSERT INTO checkpoint_writes (thread_id, checkpoint_ns, checkpoint_id, task_id, task_path, idx, channel,
                                       type, blob, written_by_run)
        SELECT thread_id, checkpoint_ns, checkpoint_id, task_id, task_path, idx, channel, type, blobs[at], run
        FROM jsonb_to_recordset(saved -> 'writes')
            AS row (thread_id text, checkpoint_ns text, checkpoint_id text, task_id text, task_path text,
                    idx integer, channel text, type text, at integer, run text)
        ON CONFLICT (thread_id, checkpoint_ns, checkpoint_id, task_id, idx) DO NOTHING;
    END IF;
    IF saved ? 'rewrites' THEN
        -- Except errors, interrupts and the like, whose last word counts.
        INSERT INTO checkpoint_writes (thread_id, checkpoint_ns, checkpoint_id, task_id, task_path, idx, channel,
                                       type, blob, written_by_run)
        SELECT thread_id, checkpoint_ns, checkpoint_id, task_id, task_path, idx, channel, type, blobs[at], run
        FROM jsonb_to_recordset(saved -> 'rewrites')
            AS row (thread_id text, checkpoint_ns text, checkpoint_id text, task_id text, task_path text,
                    idx integer, channel text, type text, at integer, run text)
        ON CONFLICT (thread_id, checkpoint_ns, checkpoint_id, task_id, idx)
        DO UPDATE SET channel = EXCLUDED.channel, type = EXCLUDED.type, blob = EXCLUDED.blob;
    END IF;
END $$;

CREATE FUNCTION set_thread_state(changed uuid, new_status text, new_error jsonb, more_metadata jsonb, has_checkpoint boolean, new_values jsonb, new_interrupts jsonb) RETURNS boolean
    LANGUAGE plpgsql
    SET enable_seqscan TO 'off'
    AS $$
BEGIN
    PERFORM 1 FROM thread WHERE thread_id = changed FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    UPDATE thread SET
        status = CASE WHEN EXISTS (SELECT FROM run_inflight WHERE run_inflight.thread_id = changed)
                      THEN 'busy' ELSE new_status END,
        error = new_error,
        metadata = metadata || more_metadata,
        "values" = CASE WHEN has_checkpoint THEN new_values ELSE "values" END,
        interrupts = CASE WHEN has_checkpoint THEN new_interrupts ELSE interrupts END,
        updated_at = now(),
        state_updated_at = now(),
        expires_at = now() + ttl_minutes * interval '1 minute'
    WHERE thread_id = changed;
    RETURN true;
END $$;

CREATE FUNCTION set_thread_state_v2(changed uuid, new_status text, new_error jsonb, more_metadata jsonb, has_checkpoint boolean, new_values jsonb, new_interrupts jsonb) RETURNS boolean
    LANGUAGE plpgsql
    SET enable_seqscan TO 'off'
    AS $$
BEGIN
    PERFORM 1 FROM thread WHERE thread_id = changed FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    UPDATE thread SET
        status = CASE WHEN EXISTS (SELECT FROM run_inflight WHERE run_inflight.thread_id = changed)
                      THEN 'busy' ELSE new_status END,
        error = new_error,
        metadata = metadata || more_metadata,
        "values" = CASE WHEN has_checkpoint THEN new_values ELSE "values" END,
        interrupts = CASE WHEN has_checkpoint THEN new_interrupts ELSE interrupts END,
        updated_at = now(),
        state_updated_at = now(),
        expires_at = now() + ttl_minutes * interval '1 minute'
    WHERE thread_id = changed;
    RETURN true;
END $$;

CREATE FUNCTION thread_content(metadata jsonb, config jsonb) RETURNS text
    LANGUAGE sql IMMUTABLE
    AS $$
    SELECT hashtextextended(metadata::text, 0)::text || '/' || hashtextextended(config::text, 0)::text
$$;

CREATE FUNCTION thread_content_v2(metadata jsonb, config jsonb) RETURNS text
    LANGUAGE sql IMMUTABLE
    AS $$
    SELECT hashtextextended(metadata::text, 0)::text || '/' || hashtextextended(config::text, 0)::text
$$;

CREATE FUNCTION waiting_runs_v1(most integer) RETURNS TABLE(run_id uuid, since timestamp with time zone, deaths integer)
    LANGUAGE sql STABLE
    SET enable_seqscan TO 'off'
    SET enable_sort TO 'off'
    SET enable_bitmapscan TO 'off'
    SET enable_hashjoin TO 'off'
    SET enable_mergejoin TO 'off'
    AS $$
    WITH RECURSIVE head AS (
        (SELECT first.run_id, first.thread_id FROM run_inflight AS first
         ORDER BY first.thread_id, first.created_at, first.run_id LIMIT 1)
        UNION ALL
        SELECT following.* FROM head, LATERAL (
            SELECT first.run_id, first.thread_id FROM run_inflight AS first
            WHERE first.thread_id > head.thread_id
            ORDER BY first.thread_id, first.created_at, first.run_id LIMIT 1
        ) AS following
    ),
    candidate AS (
        (SELECT head.run_id FROM head LIMIT most)
        UNION
        (SELECT oldest.run_id FROM run_inflight AS oldest WHERE oldest.status = 'pending' AND oldest.created_at <= now()
         ORDER BY oldest.created_at, oldest.run_id LIMIT most)
    )
    SELECT flight.run_id, greatest(flight.created_at, flight.updated_at, flight.available_at), flight.deaths
    FROM candidate JOIN run_inflight AS flight ON flight.run_id = candidate.run_id
    -- Computed, so that it is found by its id and not by the index of the queue.
    WHERE flight.status || '' = 'pending' AND flight.created_at <= now() AND flight.available_at <= now() AND (
        SELECT true FROM run_inflight AS other
        WHERE other.thread_id = flight.thread_id
          AND (other.created_at, other.run_id) < (flight.created_at, flight.run_id)
        LIMIT 1
    ) IS NULL
$$;

CREATE TABLE assistant (
    assistant_id uuid NOT NULL,
    graph_id text NOT NULL,
    name text NOT NULL,
    description text,
    version integer DEFAULT 1 NOT NULL,
    config jsonb DEFAULT '{}'::jsonb NOT NULL,
    context jsonb DEFAULT '{}'::jsonb NOT NULL,
    metadata jsonb DEFAULT '{}'::jsonb NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    updated_at timestamp with time zone DEFAULT now() NOT NULL
);

CREATE TABLE assistant_version (
    assistant_id uuid NOT NULL,
    version integer NOT NULL,
    graph_id text NOT NULL,
    name text NOT NULL,
    description text,
    config jsonb DEFAULT '{}'::jsonb NOT NULL,
    context jsonb DEFAULT '{}'::jsonb NOT NULL,
    metadata jsonb DEFAULT '{}'::jsonb NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL
);

CREATE TABLE checkpoint_blobs (
    thread_id text NOT NULL,
    checkpoint_ns text DEFAULT ''::text NOT NULL,
    channel text NOT NULL,
    version text NOT NULL,
    type text NOT NULL,
    blob bytea
);

CREATE TABLE checkpoint_migrations (
    v integer NOT NULL
);

CREATE TABLE checkpoint_writes (
    thread_id text NOT NULL,
    checkpoint_ns text DEFAULT ''::text NOT NULL,
    checkpoint_id text NOT NULL,
    task_id text NOT NULL,
    idx integer NOT NULL,
    channel text NOT NULL,
    type text,
    blob bytea NOT NULL,
    task_path text DEFAULT ''::text NOT NULL,
    written_by_run text
);

CREATE TABLE checkpoints (
    thread_id text NOT NULL,
    checkpoint_ns text DEFAULT ''::text NOT NULL,
    checkpoint_id text NOT NULL,
    parent_checkpoint_id text,
    type text,
    checkpoint jsonb NOT NULL,
    metadata jsonb DEFAULT '{}'::jsonb NOT NULL
);

CREATE TABLE cron (
    cron_id uuid NOT NULL,
    assistant_id uuid NOT NULL,
    thread_id uuid,
    user_id text,
    schedule text NOT NULL,
    timezone text,
    end_time timestamp with time zone,
    payload json NOT NULL,
    metadata jsonb DEFAULT '{}'::jsonb NOT NULL,
    on_run_completed text,
    enabled boolean DEFAULT true NOT NULL,
    next_run_date timestamp with time zone NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    updated_at timestamp with time zone DEFAULT now() NOT NULL,
    claimed_until timestamp with time zone,
    CONSTRAINT cron_on_run_completed_check CHECK ((on_run_completed = ANY (ARRAY['delete'::text, 'keep'::text])))
);

CREATE TABLE holdfast_migration (
    version integer NOT NULL,
    name text NOT NULL,
    applied_at timestamp with time zone DEFAULT now() NOT NULL
);

CREATE TABLE holdfast_pause (
    is_on boolean DEFAULT true NOT NULL,
    reason text NOT NULL,
    since timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT holdfast_pause_is_on_check CHECK (is_on)
);

CREATE TABLE holdfast_schema (
    version integer NOT NULL,
    name text NOT NULL,
    minimum_version integer NOT NULL,
    applied_at timestamp with time zone DEFAULT now() NOT NULL
);

CREATE SEQUENCE lease_token
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;

CREATE TABLE outbox (
    id uuid NOT NULL,
    run_id uuid NOT NULL,
    thread_id uuid NOT NULL,
    url text NOT NULL,
    host text NOT NULL,
    body bytea,
    is_sealed boolean DEFAULT false NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    available_at timestamp with time zone DEFAULT now() NOT NULL,
    retry_until timestamp with time zone NOT NULL,
    attempts integer DEFAULT 0 NOT NULL,
    claim_token bigint,
    claimed_by text,
    last_status integer,
    last_error text,
    delivered_at timestamp with time zone,
    dead_at timestamp with time zone,
    dead_reason text,
    CONSTRAINT outbox_check CHECK (((delivered_at IS NULL) OR (dead_at IS NULL)))
);
ALTER TABLE ONLY outbox ALTER COLUMN body SET STORAGE EXTERNAL;

CREATE TABLE run (
    run_id uuid NOT NULL,
    thread_id uuid NOT NULL,
    assistant_id uuid NOT NULL,
    status text DEFAULT 'pending'::text NOT NULL,
    metadata jsonb DEFAULT '{}'::jsonb NOT NULL,
    kwargs json NOT NULL,
    multitask_strategy text NOT NULL,
    langsmith_session_name text,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    updated_at timestamp with time zone DEFAULT now() NOT NULL,
    attempt integer DEFAULT 0 NOT NULL,
    lease_token bigint,
    first_error text,
    CONSTRAINT run_status_check CHECK ((status = ANY (ARRAY['pending'::text, 'running'::text, 'success'::text, 'error'::text, 'timeout'::text, 'interrupted'::text])))
)
WITH (fillfactor='60', autovacuum_vacuum_scale_factor='0.05', autovacuum_vacuum_threshold='1000', autovacuum_analyze_scale_factor='0.05', autovacuum_analyze_threshold='1000');

CREATE TABLE run_inflight (
    run_id uuid NOT NULL,
    thread_id uuid NOT NULL,
    status text DEFAULT 'pending'::text NOT NULL,
    created_at timestamp with time zone NOT NULL,
    updated_at timestamp with time zone NOT NULL,
    is_delayed boolean DEFAULT false NOT NULL,
    available_at timestamp with time zone DEFAULT '-infinity'::timestamp with time zone NOT NULL,
    attempt integer DEFAULT 0 NOT NULL,
    lease_token bigint,
    leased_by text,
    leased_until timestamp with time zone,
    cancel_action text,
    cancel_reason text,
    first_error text,
    listener text,
    deaths integer DEFAULT 0 NOT NULL,
    CONSTRAINT run_inflight_cancel_action_check CHECK ((cancel_action = ANY (ARRAY['interrupt'::text, 'rollback'::text]))),
    CONSTRAINT run_inflight_status_check CHECK ((status = ANY (ARRAY['pending'::text, 'running'::text])))
)
WITH (fillfactor='70', autovacuum_vacuum_scale_factor='0.05', autovacuum_vacuum_threshold='500', autovacuum_analyze_scale_factor='0.2', autovacuum_analyze_threshold='1000');

CREATE TABLE run_result (
    run_id uuid NOT NULL,
    event text NOT NULL,
    payload text NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL
);

CREATE VIEW run_shown AS
 SELECT run.run_id,
    run.thread_id,
    run.assistant_id,
    run.created_at,
    COALESCE(flight.updated_at, run.updated_at) AS updated_at,
    COALESCE(flight.status, run.status) AS status,
    run.metadata,
    run.kwargs,
    run.multitask_strategy,
    run.langsmith_session_name,
    COALESCE(flight.attempt, run.attempt) AS attempt,
    COALESCE(flight.lease_token, run.lease_token) AS lease_token,
    COALESCE(flight.first_error, run.first_error) AS first_error,
    flight.available_at,
    flight.leased_by,
    flight.leased_until,
    flight.deaths
   FROM (run
     LEFT JOIN run_inflight flight USING (run_id));

CREATE TABLE store (
    prefix text NOT NULL,
    key text NOT NULL,
    value jsonb NOT NULL,
    created_at timestamp with time zone DEFAULT CURRENT_TIMESTAMP,
    updated_at timestamp with time zone DEFAULT CURRENT_TIMESTAMP,
    expires_at timestamp with time zone,
    ttl_minutes double precision
);

CREATE TABLE store_migrations (
    v integer NOT NULL
);

CREATE TABLE thread (
    thread_id uuid NOT NULL,
    status text DEFAULT 'idle'::text NOT NULL,
    metadata jsonb DEFAULT '{}'::jsonb NOT NULL,
    config jsonb DEFAULT '{}'::jsonb NOT NULL,
    "values" jsonb,
    interrupts jsonb DEFAULT '{}'::jsonb NOT NULL,
    error jsonb,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    updated_at timestamp with time zone DEFAULT now() NOT NULL,
    state_updated_at timestamp with time zone DEFAULT now() NOT NULL,
    ttl_minutes double precision,
    ttl_strategy text,
    expires_at timestamp with time zone,
    CONSTRAINT thread_status_check CHECK ((status = ANY (ARRAY['idle'::text, 'busy'::text, 'interrupted'::text, 'error'::text]))),
    CONSTRAINT thread_ttl_strategy_check CHECK ((ttl_strategy = ANY (ARRAY['delete'::text, 'keep_latest'::text])))
)
WITH (fillfactor='50', autovacuum_vacuum_scale_factor='0.05', autovacuum_vacuum_threshold='1000', autovacuum_analyze_scale_factor='0.05', autovacuum_analyze_threshold='1000');

CREATE TABLE thread_metadata (
    thread_id uuid NOT NULL,
    metadata jsonb NOT NULL
)
WITH (autovacuum_vacuum_scale_factor='0.05', autovacuum_vacuum_threshold='1000', autovacuum_analyze_scale_factor='0.05', autovacuum_analyze_threshold='1000');

CREATE TABLE thread_order (
    thread_id uuid NOT NULL,
    status text NOT NULL,
    updated_at timestamp with time zone NOT NULL,
    state_updated_at timestamp with time zone NOT NULL,
    expires_at timestamp with time zone
)
WITH (autovacuum_vacuum_scale_factor='0.05', autovacuum_vacuum_threshold='1000', autovacuum_analyze_scale_factor='0.05', autovacuum_analyze_threshold='1000');

ALTER TABLE ONLY assistant
    ADD CONSTRAINT assistant_pkey PRIMARY KEY (assistant_id);

ALTER TABLE ONLY assistant_version
    ADD CONSTRAINT assistant_version_pkey PRIMARY KEY (assistant_id, version);

ALTER TABLE ONLY checkpoint_blobs
    ADD CONSTRAINT checkpoint_blobs_pkey PRIMARY KEY (thread_id, checkpoint_ns, channel, version);

ALTER TABLE ONLY checkpoint_migrations
    ADD CONSTRAINT checkpoint_migrations_pkey PRIMARY KEY (v);

ALTER TABLE ONLY checkpoint_writes
    ADD CONSTRAINT checkpoint_writes_pkey PRIMARY KEY (thread_id, checkpoint_ns, checkpoint_id, task_id, idx);

ALTER TABLE ONLY checkpoints
    ADD CONSTRAINT checkpoints_pkey PRIMARY KEY (thread_id, checkpoint_ns, checkpoint_id);

ALTER TABLE ONLY cron
    ADD CONSTRAINT cron_pkey PRIMARY KEY (cron_id);

ALTER TABLE ONLY holdfast_migration
    ADD CONSTRAINT holdfast_migration_pkey PRIMARY KEY (version);

ALTER TABLE ONLY holdfast_pause
    ADD CONSTRAINT holdfast_pause_pkey PRIMARY KEY (is_on);

ALTER TABLE ONLY holdfast_schema
    ADD CONSTRAINT holdfast_schema_pkey PRIMARY KEY (version);

ALTER TABLE ONLY outbox
    ADD CONSTRAINT outbox_pkey PRIMARY KEY (id);

ALTER TABLE ONLY outbox
    ADD CONSTRAINT outbox_run UNIQUE (run_id);

ALTER TABLE ONLY run_inflight
    ADD CONSTRAINT run_inflight_pkey PRIMARY KEY (run_id);

ALTER TABLE ONLY run
    ADD CONSTRAINT run_pkey PRIMARY KEY (run_id);

ALTER TABLE ONLY run_result
    ADD CONSTRAINT run_result_pkey PRIMARY KEY (run_id);

ALTER TABLE ONLY store_migrations
    ADD CONSTRAINT store_migrations_pkey PRIMARY KEY (v);

ALTER TABLE ONLY store
    ADD CONSTRAINT store_pkey PRIMARY KEY (prefix, key);

ALTER TABLE ONLY thread_metadata
    ADD CONSTRAINT thread_metadata_pkey PRIMARY KEY (thread_id);

ALTER TABLE ONLY thread_order
    ADD CONSTRAINT thread_order_pkey PRIMARY KEY (thread_id);

ALTER TABLE ONLY thread
    ADD CONSTRAINT thread_pkey PRIMARY KEY (thread_id);

CREATE INDEX assistant_created ON assistant USING btree (created_at DESC);

CREATE INDEX assistant_graph ON assistant USING btree (graph_id, created_at DESC);

CREATE INDEX assistant_metadata ON assistant USING gin (metadata jsonb_path_ops);

CREATE INDEX checkpoint_blobs_thread_id_idx ON checkpoint_blobs USING btree (thread_id);

CREATE INDEX checkpoint_writes_thread_id_idx ON checkpoint_writes USING btree (thread_id);

CREATE INDEX checkpoints_thread_id_idx ON checkpoints USING btree (thread_id);

CREATE INDEX cron_assistant ON cron USING btree (assistant_id, created_at DESC);

CREATE INDEX cron_due ON cron USING btree (next_run_date) WHERE enabled;

CREATE INDEX cron_metadata ON cron USING gin (metadata jsonb_path_ops);

CREATE INDEX cron_thread ON cron USING btree (thread_id) WHERE (thread_id IS NOT NULL);

CREATE INDEX idx_store_expires_at ON store USING btree (expires_at) WHERE (expires_at IS NOT NULL);

CREATE INDEX outbox_dead ON outbox USING btree (dead_at) WHERE (dead_at IS NOT NULL);

CREATE INDEX outbox_delivered ON outbox USING btree (delivered_at) WHERE (delivered_at IS NOT NULL);

CREATE INDEX outbox_due ON outbox USING btree (available_at) WHERE ((delivered_at IS NULL) AND (dead_at IS NULL));

CREATE INDEX run_due ON run_inflight USING btree (created_at, run_id) WHERE (status = 'pending'::text);

CREATE INDEX run_of_thread ON run_inflight USING btree (thread_id, created_at, run_id);

CREATE UNIQUE INDEX run_one_at_a_time ON run_inflight USING btree (thread_id) WHERE (status = 'running'::text);

CREATE INDEX run_result_created ON run_result USING btree (created_at);

CREATE INDEX run_suspect ON run_inflight USING btree (available_at, run_id) WHERE ((status = 'pending'::text) AND (deaths >= 2));

CREATE INDEX run_thread ON run USING btree (thread_id, created_at DESC);

CREATE INDEX store_prefix_idx ON store USING btree (prefix text_pattern_ops);

CREATE INDEX thread_created ON thread USING btree (created_at, thread_id);

CREATE INDEX thread_expires ON thread_order USING btree (expires_at) WHERE (expires_at IS NOT NULL);

CREATE INDEX thread_metadata_contains ON thread_metadata USING gin (metadata jsonb_path_ops) WITH (fastupdate=off);

CREATE INDEX thread_state_updated ON thread_order USING btree (state_updated_at, thread_id);

CREATE INDEX thread_status ON thread_order USING btree (status, updated_at, thread_id);

CREATE INDEX thread_updated ON thread_order USING btree (updated_at, thread_id);

CREATE TRIGGER keep_search AFTER INSERT OR DELETE OR UPDATE OF status, updated_at, state_updated_at, expires_at, metadata ON thread FOR EACH ROW EXECUTE FUNCTION keep_thread_search();

ALTER TABLE ONLY assistant_version
    ADD CONSTRAINT assistant_version_assistant_id_fkey FOREIGN KEY (assistant_id) REFERENCES assistant(assistant_id) ON DELETE CASCADE;

ALTER TABLE ONLY cron
    ADD CONSTRAINT cron_assistant_id_fkey FOREIGN KEY (assistant_id) REFERENCES assistant(assistant_id) ON DELETE CASCADE;

ALTER TABLE ONLY cron
    ADD CONSTRAINT cron_thread_id_fkey FOREIGN KEY (thread_id) REFERENCES thread(thread_id) ON DELETE CASCADE;

ALTER TABLE ONLY run_inflight
    ADD CONSTRAINT run_inflight_run_id_fkey FOREIGN KEY (run_id) REFERENCES run(run_id) ON DELETE CASCADE;

ALTER TABLE ONLY run
    ADD CONSTRAINT run_thread_id_fkey FOREIGN KEY (thread_id) REFERENCES thread(thread_id) ON DELETE CASCADE;
