-- `saved` has three lists, each of which may be missing; an index of a list's blob is a position in `blobs`.
CREATE FUNCTION save_checkpoints_v2(held_run uuid, held_token bigint, saved jsonb, blobs bytea[]) RETURNS void
LANGUAGE plpgsql AS $$
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
