#!/usr/bin/env bash
# Installs Debian's Chromium for the browser tests where that is possible; says so where it is not, and fails nothing.
set -u
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
        chromium fonts-dejavu-core >/dev/null && exit 0
fi
echo "no Chromium: the browser tests will be skipped. On Debian: apt-get install chromium" >&2
