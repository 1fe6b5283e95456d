#!/usr/bin/env bash
# Installs the rivals that the distribution has, by package name, if they are not there yet.
set -euo pipefail

missing=()
[ -x /usr/lib/postgresql/15/bin/initdb ] || missing+=(postgresql-15)
[ -e /usr/include/rocksdb/c.h ] || missing+=(librocksdb-dev)
[ -e /usr/include/sqlite3.h ] || missing+=(libsqlite3-dev)
[ ${#missing[@]} -gt 0 ] || exit 0
if [ "$(id -u)" != 0 ]; then
  echo "setup: install ${missing[*]} as root" >&2
  exit 2
fi
echo "setup: installing ${missing[*]}" >&2
apt-get update -qq
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
