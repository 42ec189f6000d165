#!/usr/bin/env bash
# Runs the example and writes what it prints into the README, between the lines <!-- NAME --> and <!-- end -->.
#
#   docs/capture.sh               with target/release/ferrule
#   docs/capture.sh PROGRAM       with another
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"
ferrule=$(realpath "${1:-target/release/ferrule}")
[[ -x $ferrule ]] || { echo "build it first: cargo build --release" >&2; exit 2; }
work=$(mktemp -d)
export FERRULE_STATE="$work/state"
up=
cleanup() {
  if [[ -n $up ]]; then
    kill -INT "$up" 2>/dev/null || true
    wait "$up" 2>/dev/null || true
  fi
  rm -rf "$work"
}
trap cleanup EXIT

"$ferrule" up >"$work/up" 2>&1 &
up=$!
# The last edge of the first round is the collector that the intruder tries beyond the mesh.
for _ in $(seq 300); do
  grep -q -- '-> 192.0.2.10:80' "$work/up" && break
  kill -0 "$up" 2>/dev/null || { cat "$work/up" >&2; exit 1; }
  sleep 0.2
done
curl -fsS --max-time 20 http://127.0.0.1:8000/shop >/dev/null
for _ in $(seq 100); do
  grep -q 'publish.shop -> web.shop' "$work/up" && break
  sleep 0.2
done
grep '^ferrule |' "$work/up" >"$work/up.shown"

# shown NAME COMMAND…: what a command prints, whatever code it ends with; its first paragraph is enough.
shown() {
  local name=$1
  shift
  { "$ferrule" "$@" 2>&1 || true; } >"$work/$name.shown"
}
shown edges edges
shown verify verify web store
shown explain explain --from intruder --to api --port 8080

# Lines that are long are cut for the page; what differs from run to run stays as it was in this one.
for name in up edges verify explain; do
  cut -c 1-118 "$work/$name.shown" >"$work/block"
  awk -v name="$name" -v block="$work/block" '
    $0 == "<!-- " name " -->" { print; print "```text"; while ((getline line < block) > 0) print line; print "```"; skipping = 1; next }
    $0 == "<!-- end -->" { skipping = 0 }
    !skipping { print }
  ' README.md >"$work/README.md"
  cat "$work/README.md" >README.md
done
echo "README.md has what this run printed" >&2
