-- What a run is computed from, as one short text.
CREATE FUNCTION thread_content_v2(metadata jsonb, config jsonb) RETURNS text LANGUAGE sql IMMUTABLE AS $$
    SELECT hashtextextended(metadata::text, 0)::text || '/' || hashtextextended(config::text, 0)::text
$$;
