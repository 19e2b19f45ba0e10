-- Fails unless the caller still has its lease, and keeps the run from being deleted until the transaction ends.
-- An error instead of a result, so that what is written after it need not wait for the answer.
CREATE FUNCTION require_lease_v2(held_run uuid, held_token bigint) RETURNS void
LANGUAGE plpgsql SET enable_seqscan = off AS $$
BEGIN
    PERFORM 1 FROM run_inflight
    WHERE run_id = held_run AND lease_token = held_token AND status = 'running' FOR KEY SHARE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'the lease of run % is lost', held_run USING ERRCODE = 'HF001';
    END IF;
END $$;
