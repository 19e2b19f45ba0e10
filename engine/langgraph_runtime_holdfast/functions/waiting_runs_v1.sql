-- The runs that a worker could take now, each the first of its thread and due, and since when they wait. For gauges and
-- autoscalers, which ask all the time and most of all while much waits: it looks at the `most` runs that were created
-- first, and at the first run of `most` threads, however many there are. So it knows all while no more are in flight.
CREATE FUNCTION waiting_runs_v1(most integer) RETURNS TABLE (run_id uuid, since timestamptz, deaths integer)
LANGUAGE sql STABLE
-- Statistics are old when much has come at once, and without them it would read all of it to sort it.
SET enable_seqscan = off SET enable_sort = off SET enable_bitmapscan = off
SET enable_hashjoin = off SET enable_mergejoin = off AS $$
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
