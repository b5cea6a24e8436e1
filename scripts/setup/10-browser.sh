#!/usr/bin/env bash
# A headless browser for the tests marked `browser`. Installed through apt only where nobody is surprised by it:
# as root (a container, continuous integration). Elsewhere this says what is missing and goes on.
set -euo pipefail
if command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null; then
    exit 0
fi
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    export DEBIAN_FRONTEND=noninteractive
    echo "installing chromium for the browser tests"
    apt-get update -qq
    apt-get install -y -qq --no-install-recommends chromium >/dev/null
else
    echo "no chromium found: tests marked 'browser' need it (for example: sudo apt-get install chromium)" >&2
fi
