#!/usr/bin/env bash
# Installs the Debian packages named, where their commands are not there yet.
set -euo pipefail

missing=()
for package in "$@"; do
    case $package in
    prometheus) command=promtool ;;
    *) command=$package ;;
    esac
    command -v "$command" >/dev/null || missing+=("$package")
done
[ ${#missing[@]} -eq 0 ] && exit 0

sudo=()
[ "$(id -u)" -eq 0 ] || sudo=(sudo)
if ! command -v apt-get >/dev/null; then
    echo "install these packages first: ${missing[*]}" >&2
    exit 1
fi
"${sudo[@]}" apt-get update -qq
"${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
