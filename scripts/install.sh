#!/usr/bin/env bash
# Lays the executables and the libraries of libtorch out in a folder that can be moved, and run by any user.
#
#   scripts/install.sh FOLDER_OF_EXECUTABLES LIBTORCH PREFIX
set -euo pipefail

built=$1 libtorch=$2 prefix=$3
mkdir -p "$prefix/bin" "$prefix/lib/counterweight"
for program in counterweight counterweight-train; do
    install -m 755 "$built/$program" "$prefix/bin/$program"
done
# Links become the files that they name, so that nothing points out of the folder.
cp -Lf "$libtorch"/lib/*.so* "$prefix/lib/counterweight/"
chmod 644 "$prefix"/lib/counterweight/*
"$prefix/bin/counterweight" --version
"$prefix/bin/counterweight-train" --version
