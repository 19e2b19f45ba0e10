-- Returns whether the run has this end now, null if its lease is somebody else's or the run is gone: true if its
-- thread has another run that waits. A second call whose first answer was lost changes nothing. Without a token it is
-- no worker that asks.
CREATE FUNCTION end_run_v2(
    ended uuid, held_token bigint, run_status text, its_thread uuid, new_status text, new_error jsonb,
    more_metadata jsonb, has_checkpoint boolean, new_values jsonb, new_interrupts jsonb, saved jsonb, blobs bytea[]
) RETURNS boolean LANGUAGE plpgsql SET enable_seqscan = off AS $$
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
