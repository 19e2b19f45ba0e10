-- Returns whether the thread is there. Locks it first: what it says of its runs then holds for all that were added
-- before.
CREATE FUNCTION set_thread_state_v2(
    changed uuid, new_status text, new_error jsonb, more_metadata jsonb, has_checkpoint boolean, new_values jsonb,
    new_interrupts jsonb
) RETURNS boolean LANGUAGE plpgsql SET enable_seqscan = off AS $$
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
