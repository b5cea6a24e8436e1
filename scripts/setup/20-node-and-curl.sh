#!/usr/bin/env bash
# What customers are shown is run as it is: the JavaScript in Node (18 or newer), the commands with curl. As with the
# browser, apt installs them for root only; elsewhere this says what is missing, and the tests that need it fail.
set -euo pipefail
missing=()
command -v node >/dev/null || missing+=(nodejs)
command -v curl >/dev/null || missing+=(curl)
[ ${#missing[@]} = 0 ] && exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    export DEBIAN_FRONTEND=noninteractive
    echo "installing ${missing[*]} for the tests of what customers are shown"
    apt-get update -qq
    apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
else
    echo "not found: ${missing[*]}; the tests of what customers are shown need them" >&2
fi
