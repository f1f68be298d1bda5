#!/bin/bash
# What "meson install" leaves: all that is promised and nothing else, an installed penstock that runs,
# and a unit that systemd takes: test_install.sh BUILD PREFIX
set -u
build=$1 prefix=$2
passed=0 failed=0
DESTDIR=$(mktemp -d)
export DESTDIR
trap 'rm -rf "$DESTDIR"' EXIT

check()
{
	if [ "$2" = "$3" ]; then
		passed=$((passed + 1))
	else
		failed=$((failed + 1))
		printf 'FAIL %s (< wanted, > there)\n%s\n' "$1" "$(diff <(echo "$2") <(echo "$3"))"
	fi
}

meson install -C "$build" --no-rebuild --quiet || exit 1
penstock=$DESTDIR$prefix/bin/penstock

check "what is installed" "$(sort << END
644 lib/systemd/system/penstock-release.service
644 lib/systemd/system/penstock@.service
644 lib/systemd/user/penstock@.service
644 share/bash-completion/completions/penstock
644 share/doc/penstock/examples/cloud-image.yaml
644 share/doc/penstock/examples/desktop.yaml
644 share/doc/penstock/examples/kernel.yaml
644 share/doc/penstock/examples/server.yaml
644 share/doc/penstock/json.schema.json
$(for page in disks first-guest graphics-card json limits monitor networks troubleshooting vdpa virtual-function windows \
	without-root; do echo "644 share/doc/penstock/$page.md"; done)
644 share/fish/vendor_completions.d/penstock.fish
644 share/man/man1/penstock.1
644 share/zsh/site-functions/_penstock
755 bin/penstock
755 libexec/penstock/penstock-display
$("$penstock" --help | sed -n 's|^  \([a-z-]*\) .*|644 share/man/man1/penstock-\1.1|p')
END
)" "$(find "$DESTDIR" ! -type d -printf '%m %P\n' | sed "s| ${prefix#/}/| |" | sort)"

unit=$DESTDIR$prefix/lib/systemd/system/penstock-release.service
check "the unit's program is the one that is installed" \
	"$prefix/bin/penstock release --stale" "$(sed -n 's/^ExecStart=//p' "$unit")"
check "the unit's page" "man:penstock-release(1)" "$(sed -n 's/^Documentation=//p' "$unit")"

# Among this machine's units, where the program is not.
sed -i "s|^ExecStart=|&$DESTDIR|" "$unit"
check "what systemd says of the unit" "" \
	"$(SYSTEMD_LOG_LEVEL=warning systemd-analyze verify --man=no "$unit" 2>&1 || echo "exit status $?")"
systemctl --quiet --root="$DESTDIR" enable penstock-release.service
check "what starts the unit" "multi-user.target.wants" \
	"$(find "$DESTDIR/etc" -name penstock-release.service -printf '%h\n' | sed 's|.*/||')"

for manager in system user; do
	unit=$DESTDIR$prefix/lib/systemd/$manager/penstock@.service
	check "the $manager unit's programs are the one that is installed" \
		"$prefix/bin/penstock start --foreground %i
$prefix/bin/penstock stop %i" "$(sed -n 's/^Exec[A-Za-z]*=-*//p' "$unit")"
	sed -i "s|=\(-*\)$prefix/bin|=\1$DESTDIR$prefix/bin|" "$unit"
	check "what systemd says of the $manager unit" "" \
		"$(SYSTEMD_LOG_LEVEL=warning XDG_RUNTIME_DIR=$DESTDIR systemd-analyze verify --"$manager" --man=no "${unit/@/@vm1}" 2>&1 ||
			echo "exit status $?")"
done
systemctl --quiet --root="$DESTDIR" enable penstock@vm1.service
check "what starts a machine" "multi-user.target.wants" \
	"$(find "$DESTDIR/etc" -name penstock@vm1.service -printf '%h\n' | sed 's|.*/||')"
systemctl --quiet --root="$DESTDIR" --global enable penstock@vm1.service
check "what starts a user's machine" "default.target.wants" \
	"$(find "$DESTDIR/etc/systemd/user" -name penstock@vm1.service -printf '%h\n' | sed 's|.*/||')"

echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
