# A database in a folder of its own, which goes when it ends.
set -eu
bin=$(ls -d /usr/lib/postgresql/*/bin | sort -V | tail -n 1)
data=$(mktemp -d)
trap 'rm -rf "$data"' EXIT
"$bin/initdb" --pgdata="$data" --username=bank --auth=trust --encoding=UTF8 >/dev/null
# The sidecar is the caller that PostgreSQL sees; who is behind it has been proved, and a rule has let it in.
echo 'host all all all trust' >>"$data/pg_hba.conf"
"$bin/postgres" -D "$data" -c listen_addresses='*' -c unix_socket_directories= &
database=$!
trap 'kill -INT "$database"' TERM INT
wait "$database" || true
wait "$database" || true
