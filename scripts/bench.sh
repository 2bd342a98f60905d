#!/usr/bin/env bash
# Measures yalo beside what its parts can do on this machine, in turn and three times, and prints tables.
#
#   scripts/bench.sh [compare] [rounds=3] [n=1_000_000] [turns=30_000] [rate=1000] [conversations=200]
#   scripts/bench.sh store [rounds=3] [n=1_000_000] [rate=2000] [seconds=30] [auditors=1]    on a real Cassandra
#   scripts/bench.sh steady [rounds=3] [rate=2000] [seconds=30]    of these only the time from stream to commit
#   scripts/bench.sh race pipeline=PATH [rounds=3] [n=1_000_000]    a generic pipeline on the same, Bento or Redpanda Connect
#   scripts/bench.sh growth [store=cql|sqlite] [sizes=10_000,1_000_000,10_000_000]    what it costs as the store grows
#   scripts/bench.sh compare-ingest [rounds=3] [n=300_000] [flat=5_000_000]     uploads, and memory under a large one
#
# The words are those of `yalobench`. YALO=PATH measures that yalo instead of one that is built here.
set -euo pipefail
# shellcheck source=scripts/tools.sh
source "$(dirname "${BASH_SOURCE[0]}")/tools.sh"

scenario=compare
if [[ ${1:-=} != *=* ]]; then
  scenario=$1
  shift
fi
[ "$(uname -s)" = Linux ] || fail "the costs of processes are read from /proc: Linux only"
server=$("$root/scripts/nats-server.sh")
if [[ $scenario =~ ^(store|steady|race|growth)$ ]]; then
  YALO_TEST_CASSANDRA_LIB=$("$root/scripts/cassandra.sh")
  export YALO_TEST_CASSANDRA_LIB
fi
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
"$programs/yalobench" "$scenario" yalo="$yalo" server="$server" dir="$folder" "$@"
