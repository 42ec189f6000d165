# Makes the tables once the database answers, and then works on them for as long as it may.
set -eu
until pg_isready --quiet; do sleep 0.2; done
pgbench --initialize --quiet --scale=1 postgres
exec pgbench --client=4 --time=86400 --progress=2 postgres
