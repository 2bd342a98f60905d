#!/usr/bin/env bash
# Measures yalo beside what its parts can do on this machine, in turn and three times, and prints tables. Arguments go
# to `yalobench compare`: rounds=3 n=1_000_000 turns=30_000 rate=1000 conversations=200 dir=FOLDER (on a disk); a first
# word without `=` is another scenario, such as compare-ingest.
set -euo pipefail
# shellcheck source=scripts/tools.sh
source "$(dirname "${BASH_SOURCE[0]}")/tools.sh"

[ "$(uname -s)" = Linux ] || fail "the costs of processes are read from /proc: Linux only"
server=$("$root/scripts/nats-server.sh")
cd "$root"
yalo=${YALO:-}
if [ -z "$yalo" ]; then
  cargo build --release --locked
  yalo=${CARGO_TARGET_DIR:-target}/release/yalo
fi
programs=${CARGO_TARGET_DIR:-bench/target}/release
cargo build --release --locked --manifest-path bench/Cargo.toml --target-dir "${CARGO_TARGET_DIR:-bench/target}"
folder=$(mktemp -d "$root/.yalo-bench.XXXXXX")
trap 'rm -rf "$folder"' EXIT
scenario=compare
if [[ "${1:-compare=}" != *=* ]]; then
  scenario=$1
  shift
fi
"$programs/yalobench" "$scenario" yalo="$yalo" server="$server" dir="$folder" "$@"
