-- What every run does, each in one round trip. As functions, because their statements must see what was
-- committed while they waited for a lock, and because their plans are kept without prepared statements.
-- Down: drop function save_checkpoints, set_thread_state, end_run, add_run; alter table run drop column listener, drop column deaths;

-- The process that waits for the run's events; others send them there.
ALTER TABLE run ADD COLUMN listener text;
-- How many workers have died while they worked on it: one that kills them must not take others with it each time.
ALTER TABLE run ADD COLUMN deaths integer NOT NULL DEFAULT 0;
CREATE INDEX run_suspect ON run (available_at, run_id) WHERE status = 'pending' AND deaths >= 2;

-- `saved` has three lists, each of which may be missing; an index of a list's blob is a position in `blobs`.
CREATE FUNCTION save_checkpoints(held_run uuid, held_token bigint, saved jsonb, blobs bytea[]) RETURNS void
LANGUAGE plpgsql AS $$
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

-- Returns whether the thread is there. Locks it first: what it says of its runs then holds for all that were added
-- before.
CREATE FUNCTION set_thread_state(
    changed uuid, new_status text, new_error jsonb, more_metadata jsonb, has_checkpoint boolean, new_values jsonb,
    new_interrupts jsonb
) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    PERFORM 1 FROM thread WHERE thread_id = changed FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    UPDATE thread SET
        status = CASE WHEN EXISTS (
            SELECT FROM run WHERE run.thread_id = changed AND run.status IN ('pending', 'running')
        ) THEN 'busy' ELSE new_status END,
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

-- Returns whether the run has this end now, null if its lease is somebody else's or the run is gone: true if its
-- thread has another run that waits. A second call whose first answer was lost changes nothing. Without a token it is
-- no worker that asks.
CREATE FUNCTION end_run(
    ended uuid, held_token bigint, run_status text, its_thread uuid, new_status text, new_error jsonb,
    more_metadata jsonb, has_checkpoint boolean, new_values jsonb, new_interrupts jsonb, saved jsonb, blobs bytea[]
) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    -- The thread is locked first, as everywhere.
    PERFORM 1 FROM thread WHERE thread_id = its_thread FOR NO KEY UPDATE;
    -- Its last checkpoints, unless it has this end already.
    IF saved IS NOT NULL AND EXISTS (
        SELECT FROM run WHERE run_id = ended AND lease_token = held_token AND status = 'running'
    ) THEN
        PERFORM save_checkpoints(ended, held_token, saved, blobs);
    END IF;
    IF run_status = 'rollback' THEN
        DELETE FROM run
        WHERE run_id = ended AND thread_id = its_thread AND (held_token IS NULL OR lease_token = held_token);
    ELSE
        UPDATE run SET status = run_status, updated_at = now(),
            leased_by = CASE WHEN run_status = 'running' THEN leased_by END,
            leased_until = CASE WHEN run_status = 'running' THEN leased_until END
        WHERE run_id = ended AND thread_id = its_thread
          AND (held_token IS NULL OR (lease_token = held_token AND status = 'running'));
    END IF;
    IF FOUND THEN
        PERFORM set_thread_state(
            its_thread, new_status, new_error, more_metadata, has_checkpoint, new_values, new_interrupts
        );
    ELSIF NOT EXISTS (
        SELECT FROM run WHERE run_id = ended AND lease_token = held_token AND status = run_status
    ) THEN
        RETURN NULL;
    END IF;
    RETURN EXISTS (SELECT FROM run WHERE thread_id = its_thread AND status = 'pending');
END $$;

-- Adds a run to its thread, which is locked meanwhile: a thread's runs are added one after the other. `seen` and
-- `assistant_seen` are the versions (the xmin) that the run was computed from, null for a new thread.
-- Returns the run, if it was added, and those of its thread that wait or run, these without their kwargs; nothing but
-- is_stale if the thread has another version by now, or another request made it: then all is to be computed anew.
CREATE FUNCTION add_run(
    added uuid, its_thread uuid, seen text, its_assistant uuid, assistant_seen text, run_status text, run_metadata jsonb, run_kwargs json,
    strategy text, session_name text, after_seconds float8, its_listener text, reject_if_inflight boolean,
    occupies boolean, new_metadata jsonb, new_config jsonb, minutes float8, ttl text
) RETURNS TABLE (
    is_stale boolean, run_id uuid, thread_id uuid, assistant_id uuid, created_at timestamptz, updated_at timestamptz,
    status text, metadata jsonb, kwargs json, multitask_strategy text, langsmith_session_name text
) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    version text;
    due timestamptz;
BEGIN
    IF seen IS NULL THEN
        INSERT INTO thread (thread_id, status, metadata, config, ttl_minutes, ttl_strategy, expires_at)
        VALUES (its_thread, 'busy', new_metadata, new_config, minutes, ttl, now() + minutes * interval '1 minute')
        ON CONFLICT (thread_id) DO NOTHING;
    ELSE
        SELECT thread.xmin::text INTO version FROM thread WHERE thread_id = its_thread FOR NO KEY UPDATE;
    END IF;
    IF NOT FOUND OR version <> seen THEN
        RETURN QUERY SELECT true, added, its_thread, its_assistant, now(), now(), run_status, run_metadata,
            run_kwargs, strategy, session_name;
        RETURN;
    END IF;
    IF reject_if_inflight AND EXISTS (
        SELECT FROM run WHERE thread_id = its_thread AND status IN ('pending', 'running')
    ) THEN
        NULL;
    ELSE
        -- The clock, not the transaction's beginning: runs are in the order in which they got the thread's lock.
        due := clock_timestamp() + make_interval(secs => after_seconds);
        INSERT INTO run (run_id, thread_id, assistant_id, status, metadata, kwargs, multitask_strategy,
                         langsmith_session_name, created_at, available_at, updated_at, listener)
        SELECT added, its_thread, assistant_id, run_status, run_metadata, run_kwargs, strategy, session_name,
               due, due, clock_timestamp(), its_listener
        FROM assistant WHERE assistant_id = its_assistant AND assistant.xmin::text = assistant_seen FOR KEY SHARE;
        IF NOT FOUND THEN
            IF EXISTS (SELECT FROM assistant WHERE assistant_id = its_assistant) THEN
                RAISE EXCEPTION 'assistant % has changed', its_assistant USING ERRCODE = 'HF003';
            END IF;
            RAISE EXCEPTION 'assistant % is gone', its_assistant USING ERRCODE = 'HF002';
        END IF;
        IF occupies THEN
            UPDATE thread SET status = 'busy', metadata = new_metadata, config = new_config, updated_at = now(),
                expires_at = now() + ttl_minutes * interval '1 minute'
            WHERE thread_id = its_thread;
        END IF;
    END IF;
    RETURN QUERY
        SELECT false, run.run_id, run.thread_id, run.assistant_id, run.created_at, run.updated_at, run.status,
               run.metadata, CASE WHEN run.run_id = added THEN run.kwargs END, run.multitask_strategy,
               run.langsmith_session_name
        FROM run WHERE run.thread_id = its_thread AND run.status IN ('pending', 'running')
        ORDER BY run.run_id = added DESC, run.created_at, run.run_id;
END $$;
