#!/usr/bin/env bash
# localstripe, a program that speaks part of Stripe's API, for the contract tests of payments. It is GPL: it gets its own
# environment and runs as its own process; nothing of ours imports it.
set -euo pipefail
home="${AGENTCACHE_LOCALSTRIPE_VENV:-.cache/localstripe}"
if [ -x "$home/bin/python" ] && "$home/bin/python" -c "import importlib.metadata as m; m.version('localstripe')" 2>/dev/null; then
    exit 0
fi
echo "installing localstripe into $home"
"${PYTHON:-python3}" -m venv "$home"
"$home/bin/python" -m pip install --quiet --disable-pip-version-check "localstripe==1.15.10"
