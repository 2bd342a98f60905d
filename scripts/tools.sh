# What the scripts share; sourced, never run. Tools that are fetched live in the project's own folder, .tools,
# which git ignores and `make clean` removes. Only the result goes to stdout; people read stderr.
# shellcheck shell=bash

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
tools="$root/.tools"

say() { printf '%s: %s\n' "$(basename "$0")" "$*" >&2; }

fail() {
  say "$@"
  exit 1
}

# Prints the Python that has pip, or nothing.
python_with_pip() {
  local candidate
  for candidate in python3 python; do
    if "$candidate" -m pip --version >/dev/null 2>&1; then
      echo "$candidate"
      return
    fi
  done
}

# A fresh folder beside the final place, so that the last step is a rename: two at once never see half a file.
new_workshop() {
  mkdir -p "$tools"
  mktemp -d "$tools/tmp.XXXXXX"
}

# Runs a command with a limit in seconds, where the system has `timeout` (macOS has not).
limited() {
  local seconds=$1
  shift
  if command -v timeout >/dev/null; then
    timeout "$seconds" "$@"
  else
    "$@"
  fi
}

# Puts one distribution into a folder; the requirements on stdin carry the hashes that it must match.
pip_download() {
  local python=$1 folder=$2 kind=$3
  cat >"$folder/requirements.txt"
  PIP_REQUIRE_VIRTUALENV=false limited 300 "$python" -m pip download --quiet --disable-pip-version-check \
    --retries 2 --timeout 30 --no-deps "$kind" :all: --require-hashes \
    --dest "$folder" --requirement "$folder/requirements.txt" >"$folder/pip.log" 2>&1
}

# The last telling line of a log, for a message of one line.
last_line() {
  grep -v '^[[:space:]]*$' "$1" 2>/dev/null | tail -n 1
}

# Runs a command as root if that is possible without asking for a password.
as_root() {
  if [ "$(id -u)" = 0 ]; then
    "$@"
  elif [ -n "${CI:-}" ] && command -v sudo >/dev/null; then
    sudo -n "$@"
  else
    return 1
  fi
}

# Makes sure that a program is there: program, Debian's package. Installs it where that is possible, else says how.
need() {
  local program=$1 package=$2
  command -v "$program" >/dev/null || install_package "$package" "$program"
}

# Installs Debian's package for what is missing, where that is possible, else says how.
install_package() {
  local package=$1 missing=$2
  command -v apt-get >/dev/null ||
    fail "$missing is missing: install it with your system's packages (Debian calls it $package)"
  say "installing $package with apt-get"
  # The lists of a fresh image are empty, hence the second attempt after an update.
  if as_root limited 300 apt-get install -qq -y --no-install-recommends "$package" >/dev/null 2>&1; then
    return
  fi
  if as_root limited 300 apt-get update -qq >/dev/null 2>&1 &&
    as_root limited 300 apt-get install -qq -y --no-install-recommends "$package" >/dev/null; then
    return
  fi
  fail "$missing is missing and could not be installed: run \`sudo apt-get install $package\`"
}

# Prints the path of a Java 17, or nothing: newer ones lack the security manager that Cassandra 5.0 starts with.
java_17() {
  local candidate
  for candidate in "${JAVA_HOME:-}/bin/java" java /usr/lib/jvm/*17*/bin/java; do
    if [[ $("$candidate" -version 2>&1) == *'version "17'[.\"]* ]]; then
      command -v "$candidate"
      return
    fi
  done
}
