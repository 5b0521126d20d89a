#!/bin/bash
# What installed.sh does inside of the copied root. Ends with an error at the first thing that is not as promised.
set -euo pipefail
export LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive PATH=/usr/sbin:/usr/bin:/sbin:/bin
package=$1
cd /tmp/check

fail() { echo "installed: $*" >&2; exit 1; }
is() { [ "$2" = "$3" ] || fail "$1 is '$2', not '$3'"; }
mode() { stat --format '%a %U:%G' "$1"; }

echo "install"
rm -f /usr/sbin/policy-rc.d
dpkg --install "$package" > dpkg.log 2>&1 || { cat dpkg.log; fail "dpkg --install"; }
keyholder version | grep -q '^keyholder ' || fail "keyholder version"
getent passwd keyholder > /dev/null || fail "no user keyholder"
is store.key "$(mode /etc/keyholder/store.key)" "440 root:keyholder"
is state "$(mode /var/lib/keyholder)" "700 keyholder:keyholder"
is logs "$(mode /var/log/keyholder)" "750 keyholder:keyholder"
key=$(sha256sum < /etc/keyholder/store.key)

echo "units"
units=$(dpkg --listfiles keyholder | grep '/systemd/system/.*\.\(service\|socket\)$')
# the test's own root is no booted system: only what systemd says about our files counts
verified=$(systemd-analyze verify --man=yes $units 2>&1) || fail "systemd-analyze verify: $verified"
[ -z "$verified" ] || fail "systemd-analyze verify: $verified"
exposure=$(systemd-analyze security --offline=true --threshold=15 /lib/systemd/system/keyholder.service --no-pager \
    | tail -n 1) || fail "exposed: $exposure"
echo "  $exposure"
systemd-tmpfiles --create --dry-run keyholder.conf > /dev/null 2>&1 || systemd-tmpfiles --create keyholder.conf

echo "commands as the service"
printf 's3cret\n' | keyholder-as-service secret set acme --client-id an-id > /dev/null
keyholder-as-service secret list | grep -q acme || fail "secret list"
is "owner of the store" "$(stat --format %U /var/lib/keyholder/secrets.db)" keyholder
[ ! -e /var/lib/keyholder/store.key ] || fail "a second key beside the store"
SUDO_USER=alice keyholder-as-service client add billing > /dev/null 2>&1
keyholder-as-service audit list | grep -q alice || fail "the audit log does not name the person"

echo "service"
python3 service.py /lib/systemd/system/keyholder.service /etc/keyholder > service.log 2>&1 \
    || { cat service.log; fail "service.py"; }

echo "log rotation"
install -o keyholder -g keyholder -m 0600 /dev/null /var/log/keyholder/access.log
echo line >> /var/log/keyholder/access.log
logrotate --force --state /tmp/check/rotated /etc/logrotate.d/keyholder || fail "logrotate"
ls /var/log/keyholder/access.log-* > /dev/null || fail "nothing was rotated"
is "new log" "$(mode /var/log/keyholder/access.log)" "600 keyholder:keyholder"

echo "completions"
words=$(bash -c '
    source /usr/share/bash-completion/completions/keyholder
    COMP_WORDS=(keyholder client ro) COMP_CWORD=2 COMP_LINE="keyholder client ro" COMP_POINT=19
    _keyholder keyholder ro client
    echo "${COMPREPLY[@]}"')
is "bash completion" "$words" rotate-secret
zsh -n /usr/share/zsh/vendor-completions/_keyholder || fail "zsh syntax"
words=$(zsh -f -c 'fpath=(/usr/share/zsh/vendor-completions $fpath); autoload -Uz compinit; compinit -u -D
    print -- $_comps[keyholder]')
is "zsh completion" "$words" _keyholder
fish --no-execute /usr/share/fish/vendor_completions.d/keyholder.fish || fail "fish syntax"
words=$(HOME=/tmp fish --no-config -c 'source /usr/share/fish/vendor_completions.d/keyholder.fish
    complete --do-complete "keyholder client ro"' | cut -f 1)
is "fish completion" "$words" rotate-secret

echo "man pages"
pages=$(dpkg --listfiles keyholder | grep '/man/man.*\.gz$')
[ "$(echo "$pages" | wc -l)" -ge 20 ] || fail "only these man pages: $pages"
# every command has one
keyholder docs cli | sed -n 's/^## `\(.*\)`$/\1/p' | tr ' ' '-' | while read -r page; do
    [ -e "/usr/share/man/man1/$page.1.gz" ] || fail "no man page $page"
done
for page in $pages; do
    said=$(zcat "$page" | mandoc -T lint -W warning 2>&1) || fail "mandoc on $page: $said"
    said=$(MANWIDTH=100 man --warnings=w -E UTF-8 -l "$page" 2>&1 > /dev/null) || fail "man on $page: $said"
    [ -z "$said" ] || fail "man on $page: $said"
done

echo "upgrade"
echo "# mine" >> /etc/keyholder/keyholder.toml
dpkg --install "$package" > dpkg.log 2>&1 < /dev/null || { cat dpkg.log; fail "the same again"; }
grep -q '^# mine$' /etc/keyholder/keyholder.toml || fail "an upgrade undid a change of the configuration"
is "the key after an upgrade" "$(sha256sum < /etc/keyholder/store.key)" "$key"
keyholder-as-service secret list | grep -q acme || fail "secret list after an upgrade"

echo "remove and purge"
dpkg --remove keyholder > dpkg.log 2>&1 || { cat dpkg.log; fail "dpkg --remove"; }
[ ! -e /usr/bin/keyholder ] && [ -e /etc/keyholder/keyholder.toml ] || fail "remove"
dpkg --purge keyholder > dpkg.log 2>&1 || { cat dpkg.log; fail "dpkg --purge"; }
[ ! -e /etc/keyholder/keyholder.toml ] && [ ! -e /etc/logrotate.d/keyholder ] || fail "purge left a configuration file"
is "the key after a purge" "$(sha256sum < /etc/keyholder/store.key)" "$key"
[ -s /var/lib/keyholder/secrets.db ] || fail "purge took the state"
grep -q 'left as they are' dpkg.log || fail "purge does not say what it leaves"
echo "installed: all held"
