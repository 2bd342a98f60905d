#!/usr/bin/env bash
# A real Apache Cassandra for tests: one node, or a small ring on 127.0.0.1, 127.0.0.2, ... It lives as long as the
# standard input of this script: whoever holds that and dies, however suddenly, leaves neither process nor file behind.
#
#   YALO_TEST_CASSANDRA_LIB=$(scripts/cassandra.sh) tests/cassandra/node.sh [NODES]
#
# It prints its folder, HOST:PORT of each node, and `ready` once SELECT works. Then it reads commands, one a line, and
# answers each by `ok` or by what went wrong; the end of the input (Ctrl-D by hand) ends the nodes and removes the folder:
#
#   kill N            kill -9; the data stay
#   up N              starts node N again on its old data, and waits until it answers
#   pause N, resume N SIGSTOP, SIGCONT: from the answer on, a node that takes connections and never answers
#
# CASSANDRA_MODE=test (small, soon there, and what it has answered survives kill -9) or bench (for any timing, with the
# commit log as it comes, see cassandra.yaml; rows off the heap until they are flushed, and a small young generation whose
# survivors are copied twice at most: pauses of 20 ms instead of 200);
# CASSANDRA_AUTH=1 asks for user and password, which are cassandra and cassandra; CASSANDRA_TLS=1 listens with TLS too, two
# ports above: ca.pem in the folder vouches for the nodes, stranger.pem for nobody; CASSANDRA_YAML holds more lines for
# cassandra.yaml. The folder is made in TMPDIR.
set -euo pipefail
# shellcheck source=scripts/tools.sh
source "$(dirname "${BASH_SOURCE[0]}")/../../scripts/tools.sh"

here="$root/tests/cassandra"
lib=${YALO_TEST_CASSANDRA_LIB:?is the folder of the jars: scripts/cassandra.sh prints it}
nodes=${1:-1}
holder=$PPID
patience=300

# --- the smallest client: one query over the native protocol, version 4 -------------------------------------------

hex32() { printf '\\x%02x\\x%02x\\x%02x\\x%02x' $(($1 >> 24 & 255)) $(($1 >> 16 & 255)) $(($1 >> 8 & 255)) $(($1 & 255)); }

take() { timeout 10 dd bs=1 count="$1" 2>/dev/null <&3 | od -An -v -tx1 | tr -d ' \n'; }

# The next frame: its opcode in $op and its body in $body, both in hex.
reply() {
  local head length
  head=$(take 9)
  [ ${#head} -eq 18 ] || return 1
  op=${head:8:2} body='' length=$((16#${head:10:8}))
  [ "$length" -eq 0 ] || body=$(take "$length")
}

# Prints how many peers a node sees; fails unless it answers.
peers() {
  local op body query='SELECT peer FROM system.peers'
  exec 3<>"/dev/tcp/$1/$2" || return 1
  printf '\x04\x00\x00\x00\x01\x00\x00\x00\x16\x00\x01\x00\x0bCQL_VERSION\x00\x053.0.0' >&3
  reply || return 1
  if [ "$op" = 03 ]; then
    printf '\x04\x00\x00\x00\x0f\x00\x00\x00\x18\x00\x00\x00\x14\x00cassandra\x00cassandra' >&3
    reply && [ "$op" = 10 ] || return 1
  elif [ "$op" != 02 ]; then
    return 1
  fi
  printf "\x04\x00\x00\x00\x07$(hex32 $((${#query} + 7)))$(hex32 ${#query})%s\x00\x01\x00" "$query" >&3
  reply && [ "$op" = 08 ] || return 1
  # Behind kind, flags and number of columns (12 bytes) stand the names system, peers and peer and a type (23 bytes).
  echo $((16#${body:70:8}))
}

port_open() { (exec 3<>"/dev/tcp/$1/$2") 2>/dev/null; }

# --- nodes --------------------------------------------------------------------------------------------------------

host_of() { echo "127.0.0.$1"; }

# The process of each node. The file of the same name is for others: the folder may be gone before us.
pids=()

# The process of node N, as long as that id is still this process.
pid_of() {
  local pid=${pids[$1]:-}
  [ -n "$pid" ] || return 1
  { tr '\0' '\n' <"/proc/$pid/cmdline" | grep -qxF "@$folder/node$1/args"; } 2>/dev/null && echo "$pid"
}

write_node() {
  local n=$1 home="$folder/node$1" token mode sync ring_delay=0 jamm name
  mkdir -p "$home/data" "$home/log"
  token=$(awk -v i="$n" -v n="$nodes" 'BEGIN { printf "%.0f", -9223372036854775808 + (i - 1) * (18446744073709551616 / n) }')
  case ${CASSANDRA_MODE:-test} in
    test)
      mode='-Xms512m -Xmx512m -XX:TieredStopAtLevel=1 -XX:+UseSerialGC'
      sync='commitlog_sync: batch'
      ;;
    bench)
      mode='-Xms2g -Xmx2g -XX:+UseG1GC -XX:NewSize=96m -XX:MaxNewSize=96m -XX:MaxTenuringThreshold=1 -XX:G1HeapRegionSize=8m'
      sync='commitlog_sync: periodic\ncommitlog_sync_period: 10000ms\nmemtable_allocation_type: offheap_objects'
      ;;
    *) fail "CASSANDRA_MODE is test or bench" ;;
  esac
  {
    sed -e "s/@HOST@/$(host_of "$n")/; s/@PORT@/$port/; s/@STORAGE@/$((port + 1))/; s/@TOKEN@/$token/; s/^@SYNC@/$sync/" \
      "$here/cassandra.yaml"
    if [ "${CASSANDRA_AUTH:-0}" = 1 ]; then
      printf '%s\n' 'authenticator: PasswordAuthenticator' 'authorizer: CassandraAuthorizer' 'role_manager: CassandraRoleManager'
    fi
    if [ "${CASSANDRA_TLS:-0}" = 1 ]; then
      echo "native_transport_port_ssl: $((port + 2))"
      echo "client_encryption_options: {enabled: true, optional: false, keystore: $folder/node.p12, keystore_password: cassandra, store_type: PKCS12}"
    fi
    printf '%s\n' "${CASSANDRA_YAML:-}"
  } >"$home/cassandra.yaml"
  cp "$here/logback.xml" "$home/logback.xml"
  [ "$nodes" = 1 ] || ring_delay=2000
  jamm=$(echo "$lib"/jamm-*.jar)
  {
    cat <<ARGS
$mode -XX:+PerfDisableSharedMem -XX:+ExitOnOutOfMemoryError
"-javaagent:$jamm"
-Djava.net.preferIPv4Stack=true -Djdk.attach.allowAttachSelf=true
-Dio.netty.tryReflectionSetAccessible=true -Dio.netty.allocator.useCacheForAllThreads=true -Dio.netty.allocator.maxOrder=11
"-Dcassandra.config=file://$home/cassandra.yaml" "-Dcassandra.storagedir=$home/data" "-Dcassandra.logdir=$home/log"
"-Dcassandra.triggers_dir=$home/data" "-Dlogback.configurationFile=file://$home/logback.xml" "-Djava.io.tmpdir=$home/data"
-Dcassandra-foreground=yes -Dcassandra.skip_wait_for_gossip_to_settle=0 -Dcassandra.superuser_setup_delay_ms=0
-Dcassandra.ring_delay_ms=$ring_delay
ARGS
    for name in java.base/jdk.internal.misc java.management.rmi/com.sun.jmx.remote.internal.rmi java.rmi/sun.rmi.registry \
      java.rmi/sun.rmi.server java.sql/java.sql java.base/java.lang.ref jdk.unsupported/sun.misc \
      jdk.compiler/com.sun.tools.javac.file jdk.attach/sun.tools.attach; do
      echo "--add-exports $name=ALL-UNNAMED"
    done
    for name in java.base/java.lang.module java.base/jdk.internal.loader java.base/jdk.internal.ref \
      java.base/jdk.internal.reflect java.base/jdk.internal.math java.base/jdk.internal.module \
      java.base/jdk.internal.util.jar jdk.management/com.sun.management.internal java.base/sun.nio.ch java.base/java.io \
      java.base/java.lang.reflect jdk.compiler/com.sun.tools.javac java.base/java.lang java.base/java.util; do
      echo "--add-opens $name=ALL-UNNAMED"
    done
    printf '%s\n' "-cp \"$lib/*\"" org.apache.cassandra.service.CassandraDaemon
  } >"$home/args"
}

# A certificate that vouches for itself: its keys in NAME.p12, and by itself in a file.
write_certificate() {
  local name=$1 file=$2 n names=''
  for ((n = 1; n <= nodes; n++)); do names+=",ip:$(host_of "$n")"; done
  if ! "${java%java}keytool" -genkeypair -alias "$name" -keyalg EC -dname "CN=$name" -ext "san=${names#,}" -validity 30 \
    -storetype PKCS12 -keystore "$folder/$name.p12" -storepass cassandra >/dev/null 2>&1 ||
    ! "${java%java}keytool" -exportcert -rfc -alias "$name" -keystore "$folder/$name.p12" -storepass cassandra \
      >"$folder/$file" 2>/dev/null; then
    fail "keytool, which comes with Java, made no certificate"
  fi
}

spawn() {
  local home="$folder/node$1"
  # A session of its own: Ctrl-C is for whoever holds us. A background child leads no group, so setsid does not fork, and
  # the process keeps its id.
  (cd "$home/data" && exec setsid "$java" "@$home/args" </dev/null >>"$home/log/stdout" 2>&1) &
  pids[$1]=$!
  echo $! >"$home/pid"
  # No word of the shell when it is killed.
  disown $!
}

# Waits until a node answers and sees so many peers.
await() {
  local n=$1 wanted=$2 end=$((SECONDS + patience)) seen
  while :; do
    [ -d "/proc/$holder" ] || exit 1
    # Twice: between fork and exec its command line is still ours.
    if ! pid_of "$n" >/dev/null && ! { sleep 0.3 && pid_of "$n" >/dev/null; }; then
      tail -n 30 "$folder/node$n/log/stdout" "$folder/node$n/log/system.log" >&2 2>/dev/null || true
      problem="node $n ended while it started; the end of its log stands above"
      return 1
    fi
    if port_open "$(host_of "$n")" "$port" && seen=$(peers "$(host_of "$n")" "$port" 2>/dev/null) && [ "$seen" -ge "$wanted" ]; then
      return 0
    fi
    if [ "$SECONDS" -ge "$end" ]; then
      tail -n 30 "$folder/node$n/log/system.log" >&2 2>/dev/null || true
      problem="node $n did not answer within $patience s; the end of its log stands above"
      return 1
    fi
    sleep 0.2
  done
}

end_node() {
  local pid tries
  pid=$(pid_of "$1") || return 0
  kill -KILL "$pid" 2>/dev/null || true
  # Until it is reaped: its sockets are closed a moment after its command line is gone.
  for ((tries = 0; tries < 100; tries++)); do
    [ -d "/proc/$pid" ] || return 0
    sleep 0.05
  done
  problem="node $1 (process $pid) does not die"
  return 1
}

# The kernel stops one thread after the other: until the last one stands, a node may still answer.
pause_node() {
  local pid tries
  if ! pid=$(pid_of "$1") || ! kill -STOP "$pid"; then
    problem="node $1 does not run"
    return 1
  fi
  for ((tries = 0; tries < 100; tries++)); do
    cat "/proc/$pid/task"/*/status 2>/dev/null | grep '^State:' | grep -qv stopped || return 0
    sleep 0.05
  done
  problem="node $1 (process $pid) does not stop"
  return 1
}

# A port, and the two after it, that nobody listens at on any of the hosts; below those the system gives away.
free_port() {
  local tries n more
  for ((tries = 0; tries < 100; tries++)); do
    port=$((20000 + (RANDOM * 32768 + RANDOM) % 12000))
    for ((n = 1; n <= nodes; n++)); do
      for more in 0 1 2; do
        if port_open "$(host_of "$n")" $((port + more)); then continue 3; fi
      done
    done
    return
  done
  fail "no free port between 20000 and 32000"
}

finish() {
  local n
  trap '' PIPE INT TERM HUP
  for ((n = 1; n <= nodes; n++)); do
    end_node "$n" || true
  done
  rm -rf "$folder"
}

# --- from start to end --------------------------------------------------------------------------------------------

java=$(java_17)
[ -n "$java" ] || fail "Cassandra needs Java 17: run scripts/cassandra.sh, which gets it or says how"
ls "$lib"/cassandra-all-*.jar >/dev/null 2>&1 ||
  fail "there are no jars of Cassandra in $lib: run scripts/cassandra.sh, which fetches them and prints their folder"
folder=$(mktemp -d "${TMPDIR:-/tmp}/yalo-cassandra.XXXXXX")
folder=$(cd "$folder" && pwd)
problem=
trap finish EXIT
trap 'exit 1' PIPE INT TERM HUP
case $folder in *[[:space:]]*) fail "the name of the folder, $folder, must not hold blanks: set TMPDIR" ;; esac

free_port
if [ "${CASSANDRA_TLS:-0}" = 1 ]; then
  write_certificate node ca.pem
  write_certificate stranger stranger.pem
fi
for ((n = 1; n <= nodes; n++)); do write_node "$n"; done
echo "$folder"
for ((n = 1; n <= nodes; n++)); do echo "$(host_of "$n"):$port"; done
# The first alone, since the others gossip with it; those at once.
spawn 1
await 1 0 || fail "$problem"
for ((n = 2; n <= nodes; n++)); do spawn "$n"; done
for ((n = 1; n <= nodes; n++)); do
  await "$n" $((nodes - 1)) || fail "$problem"
done
say "Cassandra ${CASSANDRA_MODE:-test}, nodes: $nodes, answers after $SECONDS s"
echo ready

while read -r verb n; do
  problem=
  case $verb in
    kill) end_node "$n" || true ;;
    up)
      pid_of "$n" >/dev/null || spawn "$n"
      await "$n" $((nodes - 1)) || true
      ;;
    pause) pause_node "$n" || true ;;
    resume) kill -CONT "$(pid_of "$n")" || problem="node $n does not run" ;;
    *) problem="unknown command $verb: kill, up, pause, resume" ;;
  esac
  echo "${problem:-ok}"
done
