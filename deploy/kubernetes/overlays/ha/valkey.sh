#!/bin/sh
# valkey.sh server|sentinel: one of several Valkeys, of which the Sentinels beside them make one the primary.
# VALKEY_SELF is this one's name, VALKEY_PEERS all names, the first primary first; REDISCLI_AUTH is the password.
# Nothing is kept over a restart: who is the primary now, the Sentinels of the others know.
set -eu
folder=${VALKEY_FOLDER:-/tmp}

primary=
for peer in $VALKEY_PEERS; do
    # A Sentinel has no password, and tells of that on stderr.
    primary=$(valkey-cli -t 2 -h "$peer" -p 26379 --raw sentinel get-master-addr-by-name holdfast 2>/dev/null | head -n 1) || true
    case " $VALKEY_PEERS " in *" $primary "*) [ -n "$primary" ] && break ;; esac
    primary=
done
[ -n "$primary" ] || primary=${VALKEY_PEERS%% *}

configuration=$folder/$1.conf
umask 077
case $1 in
server)
    {
        printf 'port 6379\nbind %s\ndir %s\nsave ""\nappendonly no\n' "${VALKEY_BIND:-* -::*}" "$folder"
        printf 'maxmemory 768mb\nmaxmemory-policy volatile-ttl\n'
        printf 'requirepass %s\nmasterauth %s\n' "$REDISCLI_AUTH" "$REDISCLI_AUTH"
        printf 'replica-announce-ip %s\n' "$VALKEY_SELF"
        [ "$primary" = "$VALKEY_SELF" ] || printf 'replicaof %s 6379\n' "$primary"
    } > "$configuration"
    exec valkey-server "$configuration"
    ;;
sentinel)
    {
        printf 'port 26379\nbind %s\ndir %s\nprotected-mode no\n' "${VALKEY_BIND:-* -::*}" "$folder"
        # Names, since the addresses of pods change.
        printf 'sentinel resolve-hostnames yes\nsentinel announce-hostnames yes\nsentinel announce-ip %s\n' "$VALKEY_SELF"
        printf 'sentinel monitor holdfast %s 6379 2\nsentinel auth-pass holdfast %s\n' "$primary" "$REDISCLI_AUTH"
        printf 'sentinel down-after-milliseconds holdfast 3000\nsentinel failover-timeout holdfast 10000\n'
    } > "$configuration"
    exec valkey-server "$configuration" --sentinel
    ;;
esac
