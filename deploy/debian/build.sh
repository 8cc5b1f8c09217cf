#!/bin/sh
# build.sh SDIST FOLDER: the Debian package of an sdist, in FOLDER, and what lintian says of it.
set -eu
sdist=$(realpath "$1")
rm -rf "$2"
mkdir -p "$2"
cd "$2"
tar -xf "$sdist"
source=$(basename "$sdist" .tar.gz)
cp -r "$source/deploy/debian" "$source/debian"
(cd "$source" && dpkg-buildpackage --build=binary --no-sign)
lintian --allow-root --no-cfg --fail-on error,warning --tag-display-limit 0 ./*.deb
ls -l ./*.deb
