-- What changes often moves into narrow tables of its own, so that an update of `run` or `thread` touches none of their
-- indexes (a HOT update). Until now each one wrote all of them anew, the one over a thread's values included.
-- Stop the servers of the version before first: they can still create runs, and end those that they work on, but they
-- can keep no lease any more, so that what they work on is taken over after one and done again from its last checkpoint.
-- Down: stop all servers; add the dropped columns and indexes of 0001 and 0003 to run; fill them, and status, from
--     run_inflight; create the dropped indexes of 0001 on thread; the functions of 0001 and 0003; then
--     drop view run_shown; drop table run_inflight; drop trigger keep_search on thread;
--     drop table thread_order, thread_metadata;
--     drop function keep_thread_search, thread_content, claim_runs, add_run_v2.

-- Nobody writes either while it is copied, or the copy would lack it. The thread first, as everywhere: a server that
-- goes on meanwhile, and has locked a thread, must get to its run.
LOCK TABLE thread, run IN ACCESS EXCLUSIVE MODE;

-- Names that the new table takes.
ALTER INDEX run_inflight RENAME TO run_inflight_old;
ALTER INDEX run_due RENAME TO run_due_old;
ALTER INDEX run_suspect RENAME TO run_suspect_old;
ALTER INDEX run_one_at_a_time RENAME TO run_one_at_a_time_old;

-- A run from its creation to its end. The run's own row is written twice: when it is created, and when it has ended.
CREATE TABLE run_inflight (
    run_id        uuid PRIMARY KEY REFERENCES run ON DELETE CASCADE,
    thread_id     uuid NOT NULL,
    status        text NOT NULL DEFAULT 'pending' CHECK (status IN ('pending', 'running')),
    -- As run has it: the order in the queue.
    created_at    timestamptz NOT NULL,
    updated_at    timestamptz NOT NULL,
    -- Asked for with after_seconds. Any other run comes after those that its thread has, whatever the clock says.
    is_delayed    boolean NOT NULL DEFAULT false,
    -- When it may be claimed: at once, or after its delay, or later while a retry backs off.
    available_at  timestamptz NOT NULL DEFAULT '-infinity',
    -- The lease. The token rises with each claim; who holds an old one can write nothing more.
    attempt       integer NOT NULL DEFAULT 0,
    lease_token   bigint,
    leased_by     text,
    leased_until  timestamptz,
    -- A wish to end it, for a worker that missed the signal.
    cancel_action text CHECK (cancel_action IN ('interrupt', 'rollback')),
    cancel_reason text,
    -- The cause of the first attempt that failed, which a later "too many attempts" must not hide.
    first_error   text,
    -- The process that waits for the run's events; others send them there.
    listener      text,
    -- How many workers have died while they worked on it: one that kills them must not take others with it each time.
    deaths        integer NOT NULL DEFAULT 0
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 500,
        autovacuum_analyze_scale_factor = 0.2, autovacuum_analyze_threshold = 1000);

INSERT INTO run_inflight (run_id, thread_id, status, created_at, updated_at, is_delayed, available_at, attempt,
                          lease_token, leased_by, leased_until, cancel_action, cancel_reason, first_error, listener,
                          deaths)
SELECT run_id, thread_id, status, created_at, updated_at, created_at > now(),
       CASE WHEN available_at > now() THEN available_at ELSE '-infinity' END, attempt,
       lease_token, leased_by, leased_until, cancel_action, cancel_reason, first_error, listener, deaths
FROM run WHERE status IN ('pending', 'running');


DROP INDEX run_inflight_old, run_due_old, run_suspect_old, run_one_at_a_time_old, run_lease;
-- The queue: oldest first.
CREATE INDEX run_due ON run_inflight (created_at, run_id) WHERE status = 'pending';
CREATE INDEX run_suspect ON run_inflight (available_at, run_id) WHERE status = 'pending' AND deaths >= 2;
-- What goes on in a thread, and which of its runs is next.
CREATE INDEX run_of_thread ON run_inflight (thread_id, created_at, run_id);
-- Two workers can never run the same thread at once, whatever else goes wrong.
CREATE UNIQUE INDEX run_one_at_a_time ON run_inflight (thread_id) WHERE status = 'running';

-- 'pending' until the run has ended, whether it runs or waits. What stays of the lease is from the run's end.
UPDATE run SET status = 'pending' WHERE status = 'running';
ALTER TABLE run DROP COLUMN available_at, DROP COLUMN leased_by, DROP COLUMN leased_until, DROP COLUMN cancel_action,
    DROP COLUMN cancel_reason, DROP COLUMN listener, DROP COLUMN deaths;
-- Room on each page for the one update that a run gets.
ALTER TABLE run SET (fillfactor = 60, autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 1000,
                     autovacuum_analyze_scale_factor = 0.05, autovacuum_analyze_threshold = 1000);

-- A run as the API shows it.
CREATE VIEW run_shown AS
SELECT run.run_id, run.thread_id, run.assistant_id, run.created_at,
       coalesce(flight.updated_at, run.updated_at) AS updated_at, coalesce(flight.status, run.status) AS status,
       run.metadata, run.kwargs, run.multitask_strategy, run.langsmith_session_name,
       coalesce(flight.attempt, run.attempt) AS attempt, coalesce(flight.lease_token, run.lease_token) AS lease_token,
       coalesce(flight.first_error, run.first_error) AS first_error,
       flight.available_at, flight.leased_by, flight.leased_until, flight.deaths
FROM run LEFT JOIN run_inflight AS flight USING (run_id);

-- By what threads are searched that changes with each run; kept by triggers, so that nobody can forget it.
CREATE TABLE thread_order (
    thread_id        uuid PRIMARY KEY,
    status           text NOT NULL,
    updated_at       timestamptz NOT NULL,
    state_updated_at timestamptz NOT NULL,
    expires_at       timestamptz
) WITH (autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 1000,
        autovacuum_analyze_scale_factor = 0.05, autovacuum_analyze_threshold = 1000);
INSERT INTO thread_order SELECT thread_id, status, updated_at, state_updated_at, expires_at FROM thread;
DROP INDEX thread_updated, thread_state_updated, thread_status, thread_expires;
CREATE INDEX thread_updated ON thread_order (updated_at, thread_id);
CREATE INDEX thread_state_updated ON thread_order (state_updated_at, thread_id);
CREATE INDEX thread_status ON thread_order (status, updated_at, thread_id);
CREATE INDEX thread_expires ON thread_order (expires_at) WHERE expires_at IS NOT NULL;
-- Its first run writes a thread's metadata.
DROP INDEX thread_metadata;
CREATE TABLE thread_metadata (
    thread_id uuid PRIMARY KEY,
    metadata  jsonb NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 1000,
        autovacuum_analyze_scale_factor = 0.05, autovacuum_analyze_threshold = 1000);
INSERT INTO thread_metadata SELECT thread_id, metadata FROM thread;
-- Without a list of what is yet to be put in: searches would read it, and now and then an update would have to empty it.
CREATE INDEX thread_metadata_contains ON thread_metadata USING gin (metadata jsonb_path_ops) WITH (fastupdate = off);
-- It had every value of every state; docs/schema.md says who may want it, and how to have it.
DROP INDEX thread_values;
ALTER TABLE thread SET (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 1000,
                        autovacuum_analyze_scale_factor = 0.05, autovacuum_analyze_threshold = 1000);

-- Here and below: plans are kept, and one that was made while a table was small must not read it whole later.
CREATE FUNCTION keep_thread_search() RETURNS trigger LANGUAGE plpgsql SET enable_seqscan = off AS $$
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
CREATE TRIGGER keep_search AFTER INSERT OR DELETE OR UPDATE OF status, updated_at, state_updated_at, expires_at, metadata
    ON thread
    FOR EACH ROW EXECUTE FUNCTION keep_thread_search();

-- Fails unless the caller still has its lease, and keeps the run from being deleted until the transaction ends.
-- An error instead of a result, so that what is written after it need not wait for the answer.
CREATE OR REPLACE FUNCTION require_lease(held_run uuid, held_token bigint) RETURNS void
LANGUAGE plpgsql SET enable_seqscan = off AS $$
BEGIN
    PERFORM 1 FROM run_inflight
    WHERE run_id = held_run AND lease_token = held_token AND status = 'running' FOR KEY SHARE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'the lease of run % is lost', held_run USING ERRCODE = 'HF001';
    END IF;
END $$;

-- Claims due runs, oldest first, whose thread is free: none of its runs is running and none is before them.
CREATE FUNCTION claim_runs(most integer, worker text, lease_seconds float8, may_suspect boolean)
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

-- Returns whether the thread is there. Locks it first: what it says of its runs then holds for all that were added
-- before.
CREATE OR REPLACE FUNCTION set_thread_state(
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

-- Returns whether the run has this end now, null if its lease is somebody else's or the run is gone: true if its
-- thread has another run that waits. A second call whose first answer was lost changes nothing. Without a token it is
-- no worker that asks.
CREATE OR REPLACE FUNCTION end_run(
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

-- What a run is computed from, as one short text.
CREATE FUNCTION thread_content(metadata jsonb, config jsonb) RETURNS text LANGUAGE sql IMMUTABLE AS $$
    SELECT hashtextextended(metadata::text, 0)::text || '/' || hashtextextended(config::text, 0)::text
$$;

-- Adds a run to its thread, which is locked meanwhile: a thread's runs are added one after the other. `seen` is the
-- content of the thread (`thread_content`) and `assistant_seen` the assistant's version (its xmin) that the run was
-- computed from, `seen` null for a new thread; `seen_busy` is whether the thread was busy, null if the run would be the
-- same. A thread that is not busy becomes so, with the new metadata and config if there are any.
-- Returns the run, if it was added now or by an earlier call, and those of its thread in flight that its strategy is to
-- end, these without their kwargs; one that is in flight if the run was refused because of it; nothing but is_stale if
-- what was seen does not hold any more: then all is to be computed anew.
CREATE FUNCTION add_run_v2(
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

-- As the version before calls it: `seen` is the thread's xmin.
CREATE OR REPLACE FUNCTION add_run(
    added uuid, its_thread uuid, seen text, its_assistant uuid, assistant_seen text, run_status text, run_metadata jsonb, run_kwargs json,
    strategy text, session_name text, after_seconds float8, its_listener text, reject_if_inflight boolean,
    occupies boolean, new_metadata jsonb, new_config jsonb, minutes float8, ttl text
) RETURNS TABLE (
    is_stale boolean, run_id uuid, thread_id uuid, assistant_id uuid, created_at timestamptz, updated_at timestamptz,
    status text, metadata jsonb, kwargs json, multitask_strategy text, langsmith_session_name text
) LANGUAGE plpgsql AS $$
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
