#!/usr/bin/env bash
# Prints the folder of the jars of Apache Cassandra, which the tests run as a process of its own (tests/cassandra). They
# come from Maven's registry (67 MB, once) into .tools; Java 17 and Maven are installed where that is possible.
set -euo pipefail
# shellcheck source=scripts/tools.sh
source "$(dirname "${BASH_SOURCE[0]}")/tools.sh"

pom="$root/tests/cassandra/pom.xml"
version=$(sed -n 's:.*<cassandra.version>\(.*\)</cassandra.version>.*:\1:p' "$pom")
jars="$tools/cassandra-$version"

if [ -z "$(java_17)" ]; then
  # Its folder is found wherever the `java` on PATH is another one.
  install_package openjdk-17-jre-headless "Java 17, the one that Cassandra 5 runs on"
  [ -n "$(java_17)" ] || fail "openjdk-17-jre-headless is installed, but there is no Java 17: set JAVA_HOME to its folder"
fi
if [ -d "$jars" ]; then
  echo "$jars"
  exit
fi
need mvn maven

workshop=$(new_workshop)
trap 'rm -rf "$workshop"' EXIT
say "fetching Cassandra $version with Maven: about 100 jars, 67 MB (a minute, depending on the line)"
# A copy, since Maven writes beside the file that it reads.
cp "$pom" "$workshop/pom.xml"
limited 900 mvn --quiet --batch-mode -Dstyle.color=never --file "$workshop/pom.xml" dependency:copy-dependencies \
  -DincludeScope=runtime -DoutputDirectory="$workshop/jars" >"$workshop/mvn.log" 2>&1 ||
  fail "cannot fetch Cassandra $version with Maven: $(grep -m 1 ERROR "$workshop/mvn.log" || last_line "$workshop/mvn.log")"
[ -f "$workshop/jars/cassandra-all-$version.jar" ] || fail "what Maven fetched does not hold cassandra-all-$version.jar"
# Two at once: the other was first, and a rename never lands inside a folder that is there.
mv -T "$workshop/jars" "$jars" 2>/dev/null || [ -d "$jars" ] || fail "cannot make $jars"
say "fetched Cassandra $version from Maven's registry into ${jars#"$root"/}"
echo "$jars"
