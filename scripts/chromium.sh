#!/usr/bin/env bash
# Prints the path of Chromium for the tests of the pages; installs it, and Node.js, where that is possible.
set -euo pipefail
# shellcheck source=scripts/tools.sh
source "$(dirname "${BASH_SOURCE[0]}")/tools.sh"

need node nodejs
need npm npm
for program in chromium chromium-browser google-chrome google-chrome-stable; do
  if command -v "$program"; then
    exit
  fi
done
need chromium chromium
command -v chromium
