#!/bin/sh
# What the entrypoint of the official Postgres image does, as far as docker-compose.yml needs it.
set -eu
case "$1" in
--config.file=*) exec prometheus --storage.tsdb.path=/prometheus "$@" ;;
postgres) ;;
*) exec "$@" ;;
esac
data=/var/lib/postgresql/data
chown -R postgres:postgres "$data" /var/run/postgresql
as_postgres() { setpriv --reuid=postgres --regid=postgres --init-groups "$@"; }
if [ ! -s "$data/PG_VERSION" ]; then
    printf '%s' "$POSTGRES_PASSWORD" > /tmp/password
    chown postgres /tmp/password
    as_postgres initdb --pgdata="$data" --username="$POSTGRES_USER" --pwfile=/tmp/password --encoding=UTF8 \
        --auth-local=trust --auth-host=scram-sha-256
    rm /tmp/password
    echo "host all all all scram-sha-256" >> "$data/pg_hba.conf"
    as_postgres pg_ctl --pgdata="$data" --options="-c listen_addresses=''" --wait start
    as_postgres createdb --username="$POSTGRES_USER" "$POSTGRES_DB" || true
    as_postgres pg_ctl --pgdata="$data" --mode=fast --wait stop
fi
shift
exec setpriv --reuid=postgres --regid=postgres --init-groups \
    postgres -D "$data" -c listen_addresses='*' "$@"
