#!/bin/sh
# NATS, which reads its certificate again (SIGHUP) when `warren deploy certificates` has renewed it.
nats-server --config /run/warren/nats.conf &
server=$!
trap 'kill -TERM "$server"' TERM INT

watch() {
    seen=$(cksum /run/warren/tls.crt)
    while sleep 10; do
        now=$(cksum /run/warren/tls.crt)
        if [ "$now" != "$seen" ]; then
            kill -HUP "$server"
            seen=$now
        fi
    done
}
watch &
watcher=$!

code=129
while [ "$code" -gt 128 ] && kill -0 "$server" 2>/dev/null; do # a signal interrupts `wait`
    wait "$server"
    code=$?
done
kill "$watcher" 2>/dev/null
exit "$code"
