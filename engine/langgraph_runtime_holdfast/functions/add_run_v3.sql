-- Adds a run to its thread, which is locked meanwhile: a thread's runs are added one after the other. `seen` is the
-- content of the thread (`thread_content_v2`) and `assistant_seen` the assistant's version (its xmin) that the run was
-- computed from, `seen` null for a new thread; `seen_busy` is whether the thread was busy, null if the run would be the
-- same. A thread that is not busy becomes so, with the new metadata and config if there are any.
-- Returns the run, if it was added now or by an earlier call, and those of its thread in flight that its strategy is to
-- end, these without their kwargs; one that is in flight if the run was refused because of it; nothing but is_stale if
-- what was seen does not hold any more: then all is to be computed anew.
CREATE FUNCTION add_run_v3(
    added uuid, its_thread uuid, seen text, seen_busy boolean, its_assistant uuid, assistant_seen text,
    run_status text, run_metadata jsonb, run_kwargs json, strategy text, session_name text, after_seconds float8,
    its_listener text, reject_if_inflight boolean, new_metadata jsonb, new_config jsonb, minutes float8, ttl text
) RETURNS TABLE (
    is_stale boolean, run_id uuid, thread_id uuid, assistant_id uuid, created_at timestamptz, updated_at timestamptz,
    status text, metadata jsonb, kwargs json, multitask_strategy text, langsmith_session_name text
) LANGUAGE plpgsql SET enable_seqscan = off AS $$
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
