#!/bin/sh
# PostgreSQL in any image that has initdb and postgres in PATH, as the user of the volume. What `warren deploy keys` wrote
# configures it; the superuser's password is in a file and in no environment. The cluster is made whole or not at all.
set -eu

if [ ! -s "$PGDATA/PG_VERSION" ]; then
    rm -rf "$PGDATA.new"
    initdb -D "$PGDATA.new" --username=postgres --pwfile=/run/warren/superuser.password \
        --auth=scram-sha-256 --encoding=UTF8 --locale=C
    mv "$PGDATA.new" "$PGDATA"
fi

# It reads its certificate at a reload (SIGHUP): a renewed one is served within ten seconds.
watch() {
    seen=$(cksum /run/warren/tls.crt)
    while sleep 10; do
        now=$(cksum /run/warren/tls.crt)
        if [ "$now" != "$seen" ]; then
            kill -HUP $$ # $$ is the first process, also here: PostgreSQL from the next line on
            seen=$now
        fi
    done
}
watch &
exec postgres -D "$PGDATA" -c config_file=/run/warren/postgresql.conf -c hba_file=/run/warren/pg_hba.conf
