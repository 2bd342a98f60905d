#!/usr/bin/env bash
# Prints the folder of the dialogues that the tests replay, one folder of YAML files per language. They are
# chatterbot-corpus 1.3.3 (BSD licence) from the Python registry, checksum pinned, fetched once into .tools.
set -euo pipefail
# shellcheck source=scripts/tools.sh
source "$(dirname "${BASH_SOURCE[0]}")/tools.sh"

version=1.3.3
files=237
corpus="$tools/corpus-$version"

if [ -d "$corpus" ]; then
  echo "$corpus"
  exit
fi

python=$(python_with_pip)
[ -n "$python" ] || fail "the test dialogues come from the Python registry: install Python with pip" \
  "(Debian: apt-get install python3-pip) and run this again"

workshop=$(new_workshop)
trap 'rm -rf "$workshop"' EXIT
requirement="chatterbot-corpus==$version \
  --hash=sha256:86de5300afb9a80826386339d3bec79c0a72eb0358abb8327e2ecef5ae0ce154 \
  --hash=sha256:615b5c4c605154f60ae51d03ed918ed92e9d32bc2b144b759bbc64ecdbe18481"
# The wheel, else the source distribution: some mirrors keep only one.
pip_download "$python" "$workshop" --only-binary <<<"$requirement" ||
  pip_download "$python" "$workshop" --no-binary <<<"$requirement" ||
  fail "cannot fetch chatterbot-corpus $version from the Python registry: $(last_line "$workshop/pip.log")"

"$python" - "$workshop" "$files" "$corpus" <<'PYTHON' || fail "the archive of chatterbot-corpus $version is not as expected"
import glob, os, sys, tarfile, zipfile

folder, expected, place = sys.argv[1], int(sys.argv[2]), sys.argv[3]
wheels = glob.glob(folder + "/*.whl")
if wheels:
    archive = zipfile.ZipFile(wheels[0])
    names, read = archive.namelist(), archive.read
else:
    archive = tarfile.open(glob.glob(folder + "/*.tar.gz")[0])
    names, read = archive.getnames(), lambda name: archive.extractfile(name).read()
found = 0
for name in names:
    parts = name.split("/")
    if parts[-4:-2] == ["chatterbot_corpus", "data"] and name.endswith(".yml"):
        language = os.path.join(folder, "corpus", parts[-2])
        os.makedirs(language, exist_ok=True)
        with open(os.path.join(language, parts[-1]), "wb") as target:
            target.write(read(name))
        found += 1
if found != expected:
    sys.exit(f"{found} files instead of {expected}")
try:
    os.rename(os.path.join(folder, "corpus"), place)
except OSError:
    # Two at once: the other was first, and a rename never lands inside a folder that is there.
    if not os.path.isdir(place):
        raise
PYTHON

say "fetched $files files of dialogues (chatterbot-corpus $version, Python registry) into ${corpus#"$root"/}"
echo "$corpus"
