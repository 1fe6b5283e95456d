#!/usr/bin/env bash
# Installs what `make build` made, with units, examples and pages. Makes no user and starts nothing:
# docs/operations/deployment.md says what comes next. What is in /etc/stemedb stays as it is.
set -euo pipefail

root="$(cd "$(dirname "$0")/.." && pwd)"
prefix="${PREFIX:-/usr/local}"
binaries="${BINARIES:?names the folder of the built binaries}"
to="${DESTDIR:-}$prefix"
etc="${DESTDIR:-}${SYSCONFDIR:-/etc}/stemedb"

names=(stemedb stemedb-api stemedb-wal-verify stemedb-wal-repair)
for name in "${names[@]}"; do
  if [ ! -x "$binaries/$name" ]; then
    echo "install: there is no $binaries/$name: run \`make build\` first, as yourself" >&2
    exit 1
  fi
done
install -d "$to/bin"
for name in "${names[@]}"; do install -m 0755 "$binaries/$name" "$to/bin/$name"; done

# The units name /usr, where a package puts its files.
units="$to/lib/systemd/system"
install -d "$units"
for unit in "$root"/deploy/systemd/*.{service,timer}; do
  sed "s|/usr/bin/|$prefix/bin/|; s|/usr/share/|$prefix/share/|" "$unit" >"$units/$(basename "$unit")"
  chmod 0644 "$units/$(basename "$unit")"
done
install -D -m 0644 "$root/deploy/systemd/stemedb.sysusers" "$to/lib/sysusers.d/stemedb.conf"

share="$to/share/stemedb"
install -D -m 0644 "$root/deploy/.env.example" "$share/environment.example"
for drop_in in wal-disk store-folder; do
  install -D -m 0644 "$root/deploy/systemd/$drop_in.conf" "$share/$drop_in.conf"
done
for kind in examples nginx haproxy envoy prometheus alertmanager; do
  for file in "$root/deploy/$kind"/*.*; do
    install -D -m 0644 "$file" "$share/$kind/$(basename "$file")"
  done
done
for kind in dashboards provisioning/dashboards provisioning/datasources; do
  for file in "$root/deploy/grafana/$kind"/*.*; do
    install -D -m 0644 "$file" "$share/grafana/$kind/$(basename "$file")"
  done
done
# All pages as they lie in the repository: they link to each other.
(cd "$root/docs" && find . -type f -print0) | while IFS= read -r -d '' page; do
  install -D -m 0644 "$root/docs/$page" "$to/share/doc/stemedb/$page"
done

if [ ! -e "$etc/api.toml" ]; then
  install -D -m 0644 "$root/deploy/examples/single-node.toml" "$etc/api.toml"
fi
