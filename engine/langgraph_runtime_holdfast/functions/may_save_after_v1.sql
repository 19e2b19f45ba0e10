-- Whether a run's next checkpoints may be saved: the one that they build on is there. Also if the run is somebody
-- else's or gone, and its checkpoints with it: whatever is called next says so.
CREATE FUNCTION may_save_after_v1(
    held_run uuid, held_token bigint, after_thread text, after_ns text, after_id text
) RETURNS boolean LANGUAGE plpgsql STABLE SET enable_seqscan = off AS $$
BEGIN
    RETURN after_id IS NULL OR EXISTS (
        SELECT FROM checkpoints
        WHERE thread_id = after_thread AND checkpoint_ns = after_ns AND checkpoint_id = after_id
    ) OR NOT EXISTS (
        SELECT FROM run_inflight
        WHERE run_id = held_run AND lease_token = held_token AND status = 'running'
    );
END $$;
