#!/bin/sh
# Installs the Debian packages listed in the file $1 when that is possible here, else prints the command that would.
# Services of the packages are not started: a policy-rc.d says no while they are installed.
set -eu
wanted=$(sed 's/#.*//' "$1" | tr -s ' \n' ' ')
missing=""
if ! command -v dpkg-query >/dev/null 2>&1; then
    echo "packages: this is no Debian; tests that need$wanted are skipped and named"
    exit 0
fi
for package in $wanted; do
    dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed || missing="$missing $package"
done
[ -n "$missing" ] || exit 0
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null 2>&1; then
    echo "packages: not installed here:$missing"
    echo "packages: what needs them is skipped and named; to install them: sudo apt-get install --no-install-recommends$missing"
    exit 0
fi
echo "packages: installing$missing (apt-get install --no-install-recommends, services not started)"
policy=/usr/sbin/policy-rc.d
# one at a time: the first to end takes its policy away, and the other's services would start
exec 9>/run/lock/bootstorm-packages
flock 9
if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' > "$policy"
    chmod 755 "$policy"
    trap 'rm -f "$policy"' EXIT
fi
export DEBIAN_FRONTEND=noninteractive
# somebody else may be installing at the moment: wait for him
apt_get() { apt-get -o DPkg::Lock::Timeout=120 "$@"; }
log=$(mktemp)
for try in 1 2; do
    # one by one on the second try: a package that this release lacks must not keep the others away
    if [ "$try" = 1 ]; then
        { apt_get update && apt_get install -y --no-install-recommends $missing; } >"$log" 2>&1 && break
    else
        for package in $missing; do
            apt_get install -y --no-install-recommends "$package" >>"$log" 2>&1 || echo "packages: cannot install $package ($log)"
        done
    fi
done
