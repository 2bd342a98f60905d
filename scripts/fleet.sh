#!/usr/bin/env bash
# A whole fleet on this machine, for people: 3 nats-servers, 2 frontends, 3 bots, 2 auditors, 1 admin, each a process
# of its own. Prints who is who and a two-minute script to show friends; Ctrl-C stops everything and keeps the data.
#
#   YALO=path of the executable (target/release/yalo)   FLEET_DIR=folder (.yalo-fleet)
#   --fresh: start with an empty folder
# shellcheck disable=SC2317 # what the traps call is reached, though shellcheck does not see it
set -euo pipefail
# Each process in a group of its own: Ctrl-C reaches this script alone, which then stops them in the right order.
set -m
# shellcheck source=scripts/tools.sh
source "$(dirname "${BASH_SOURCE[0]}")/tools.sh"

yalo=${YALO:-$root/target/release/yalo}
home=${FLEET_DIR:-$root/.yalo-fleet}
fresh=false
for argument in "$@"; do
  case "$argument" in
    --fresh) fresh=true ;;
    *) fail "unknown option $argument (there is --fresh)" ;;
  esac
done
[ -x "$yalo" ] || fail "$yalo is not there: run make fleet, which builds it"
need curl curl
server=$("$root/scripts/nats-server.sh")

mkdir -p "$home"
home=$(cd "$home" && pwd)
if [ -f "$home/running" ] && kill -0 "$(cat "$home/running")" 2>/dev/null; then
  fail "a fleet runs already on $home (process $(cat "$home/running"))"
fi
if $fresh; then
  rm -rf "$home/nats" "$home/data" "$home/secret"
fi
mkdir -p "$home/nats" "$home/data" "$home/log"
chmod 700 "$home"
echo $$ >"$home/running"

# --- stopping ----------------------------------------------------------------------------------------------------

roles=()
servers=()
table=()

# Puts those of the given processes that still run, frozen ones included, into $living. Only our own children count,
# whatever became of a process id. (No pipes: a subshell does not see the jobs.)
living=()
alive() {
  local pid jobs
  jobs=" $(jobs -pr) $(jobs -ps) "
  jobs=${jobs//$'\n'/ }
  living=()
  for pid in "$@"; do
    [[ $jobs != *" $pid "* ]] || living+=("$pid")
  done
  [ ${#living[@]} -gt 0 ]
}

# Asks processes to end, waits for them, and ends those that are deaf.
stop() {
  local seconds=$1 pid
  shift
  alive "$@" || return 0
  for pid in "${living[@]}"; do
    kill -TERM "$pid" 2>/dev/null || true
    # A frozen one can't hear.
    kill -CONT "$pid" 2>/dev/null || true
  done
  local end=$((SECONDS + seconds))
  while alive "$@" && [ "$SECONDS" -lt "$end" ]; do
    sleep 0.1
  done
  alive "$@" || return 0
  for pid in "${living[@]}"; do
    say "process $pid did not end within $seconds s and is killed"
    kill -KILL "$pid" 2>/dev/null || true
  done
}

finish() {
  trap '' INT TERM HUP
  [ ${#table[@]} = 0 ] || say "stopping"
  # Roles first: they finish what they have accepted, and for that they need NATS.
  [ ${#roles[@]} = 0 ] || stop 15 "${roles[@]}"
  [ ${#servers[@]} = 0 ] || stop 10 "${servers[@]}"
  rm -f "$home/running"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

# --- starting ----------------------------------------------------------------------------------------------------

# Finds a port from the given one upwards that nobody listens at and that was not given away before.
taken=" "
free_port() {
  port=$1
  while [[ $taken == *" $port "* ]] || (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do
    port=$((port + 1))
  done
  taken+="$port "
}

# Waits until an address answers 200.
await() {
  local name=$1 pid=$2 url=$3 end=$((SECONDS + 30))
  until curl -fsS --max-time 2 -o /dev/null "$url" 2>/dev/null; do
    if ! alive "$pid" || [ "$SECONDS" -ge "$end" ]; then
      tail -n 20 "$home/log/$name.log" >&2
      fail "$name is not ready; the end of $home/log/$name.log stands above"
    fi
    sleep 0.1
  done
}

# Starts a command in the background with a log of its own; its process id is then in $!.
launch() {
  local name=$1 address=$2
  shift 2
  "$@" >"$home/log/$name.log" 2>&1 </dev/null &
  table+=("$(printf '%-11s %-8s %-24s %s' "$name" $! "$address" "${home#"$PWD"/}/log/$name.log")")
}

# A word that stays the same from start to start, readable by its owner only.
secret() {
  mkdir -p "$home/secret"
  [ -s "$home/secret/$1" ] ||
    (umask 077 && od -An -N32 -tx1 /dev/urandom | tr -d ' \n' >"$home/secret/$1")
  cat "$home/secret/$1"
}

start_servers() {
  local node routes="" urls="" password checks=()
  password=$(secret nats-password)
  local client=() route=() monitor=()
  for node in 1 2 3; do
    free_port 14222 && client[node]=$port
    free_port 16222 && route[node]=$port
    free_port 18222 && monitor[node]=$port
    routes+="${routes:+, }\"nats://route:$password@127.0.0.1:${route[node]}\""
    urls+="${urls:+,}nats://127.0.0.1:${client[node]}"
  done
  for node in 1 2 3; do
    (umask 077 && cat >"$home/nats/$node.conf" <<CONF)
server_name: nats-$node
listen: 127.0.0.1:${client[node]}
http: 127.0.0.1:${monitor[node]}
# A dead link is found within 40 s, well inside the duplicate window.
ping_interval: 20s
ping_max: 2
authorization { user: yalo, password: "$password" }
jetstream {
  store_dir: "$home/nats/$node"
  # All three share this machine's power: what a power cut may take back.
  sync_interval: 100ms
}
cluster {
  name: yalo
  listen: 127.0.0.1:${route[node]}
  authorization { user: route, password: "$password" }
  routes: [$routes]
}
CONF
    launch "nats-$node" "127.0.0.1:${client[node]}" "$server" --config "$home/nats/$node.conf"
    servers+=($!)
    checks[node]=$!
  done
  for node in 1 2 3; do
    await "nats-$node" "${checks[node]}" "http://127.0.0.1:${monitor[node]}/healthz"
  done
  export YALO_NATS__URL=$urls YALO_NATS__USER=yalo YALO_NATS__PASSWORD=$password YALO_NATS__REPLICAS=3
}

# Starts one role; its pid is then in $pid, its address, if it has one, in $address.
start_role() {
  local name=$1 role=${1%-*} listen=$2
  address=-
  local settings=()
  if [ -n "$listen" ]; then
    free_port "$listen"
    address="http://127.0.0.1:$port"
    settings+=(--set "$role.listen=127.0.0.1:$port")
  fi
  free_port 18090
  ready="http://127.0.0.1:$port/readyz"
  launch "$name" "$address" "$yalo" "$role" --set "ops.listen=127.0.0.1:$port" "${settings[@]+"${settings[@]}"}"
  pid=$!
  roles+=("$pid")
  pending+=("$name $pid $ready")
}

start_servers
YALO_AUTH__GUEST_KEY=$(secret guest-key)
export YALO_AUTH__GUEST_KEY YALO_DATA__DIR="$home/data"
# For people who want to join in: `source` it, and `yalo bot` is one more bot of this fleet.
(umask 077 && export -p | grep ' YALO_' >"$home/env")

# Just after its start a cluster may have no leader yet; init may be repeated as often as one likes.
for attempt in 1 2 3 4 5; do
  if "$yalo" init >"$home/log/init.log" 2>&1; then
    break
  fi
  [ "$attempt" -lt 5 ] || { cat "$home/log/init.log" >&2 && fail "yalo init did not succeed"; }
  sleep 1
done

pending=()
start_role frontend-1 8080 && frontend_1=$address
start_role frontend-2 8180 && frontend_2=$address
start_role bot-1 "" && bot_1=$pid
start_role bot-2 ""
start_role bot-3 ""
start_role auditor-1 "" && auditor_1=$pid
start_role auditor-2 ""
start_role admin 8081 && admin=$address
for line in "${pending[@]}"; do
  read -r name pid ready <<<"$line"
  await "$name" "$pid" "$ready"
done

here=${home#"$PWD"/}

# --- showing -----------------------------------------------------------------------------------------------------

printf '\n%-11s %-8s %-24s %s\n' process pid address log
printf '%s\n' "${table[@]}"
cat <<TEXT

Two minutes to show friends (in a second terminal):

  1. Talk, without a pause, to both frontends. Each line is an answer:
       while sleep 0.2; do for at in $frontend_1 $frontend_2; do
         curl -sS --json '{"text":"it is '\$(date +%T)'"}' \$at/v1/chat | grep -o '"text":"[^"]*"' | tail -1; done; done
  2. Kill a bot in the middle of it. The others take over, every question is answered:
       kill -9 $bot_1
  3. Freeze an auditor for a while, then let it go on. Its messages are delivered again, none is stored twice:
       kill -STOP $auditor_1; sleep 20; kill -CONT $auditor_1
  4. Kill a nats-server. The other two hold every message that was accepted:
       kill -9 ${servers[1]}
  5. Count. "messages" (stored) reaches "messages" of "stream" (accepted): not a word is missing.
       curl -sS -H "authorization: Bearer \$(cat $here/data/admin-token)" $admin/admin/v1/stats
  6. Join in with a fourth bot:
       source $here/env && ${yalo#"$PWD"/} bot

Chat: $frontend_1   Admin: $admin (token: cat $here/data/admin-token)
TEXT

# Reports each process that ends by itself; a killed bot is part of the show.
watch() {
  local pid before
  alive "${roles[@]}" "${servers[@]}"
  while [ ${#living[@]} -gt 0 ]; do
    before=("${living[@]}")
    sleep 1
    alive "${before[@]}" || true
    for pid in "${before[@]}"; do
      [[ " ${living[*]-} " == *" $pid "* ]] ||
        say "ended: $(printf '%s\n' "${table[@]}" | grep " $pid " | tr -s ' ')"
    done
  done
  fail "everything has ended"
}

echo "Ctrl-C stops everything."
watch
