#!/bin/bash
# Completes command lines as bash does, without a terminal: test_completion.sh PENSTOCK
# The host is a made-up one in a temporary directory; options and commands are those of PENSTOCK.
set -u
cd "$(dirname "$0")/../.." || exit 1
program=$1
passed=0 failed=0

penstock()
{
	"$program" "$@"
}

_penstock_root=$(mktemp -d)
trap 'rm -rf "$_penstock_root"' EXIT
pci=$_penstock_root/sys/bus/pci
for device in 0000:01:00.0 0000:01:00.1 0000:2f:00.0 10000:e1:00.0; do
	mkdir -p "$pci/devices/$device"
	touch "$pci/devices/$device/vendor"
done
touch "$pci/devices/0000:2f:00.0/rom" "$pci/devices/0000:01:00.0/sriov_totalvfs"
mkdir -p "$pci/drivers/vfio-pci/0000:01:00.1" "$pci/drivers/vfio-pci/module"
mkdir -p "$_penstock_root/run/penstock/devices"
touch "$_penstock_root/run/penstock/devices/0000:2f:00.0"

. completions/penstock.bash

# expect LINE REPLY...: what is there to choose from at the end of LINE, in any order.
expect()
{
	local replies wanted

	COMP_LINE=$1 COMP_POINT=${#1}
	shift
	COMPREPLY=()
	_penstock
	replies=$(printf '%s\n' "${COMPREPLY[@]}" | sort)
	wanted=$(printf '%s\n' "$@" | sort)
	if [ "$replies" = "$wanted" ]; then
		passed=$((passed + 1))
		return
	fi
	failed=$((failed + 1))
	echo "FAIL $COMP_LINE"
	echo "  offers: ${replies//$'\n'/ }"
	echo "  not:    ${wanted//$'\n'/ }"
}

COMP_WORDBREAKS=$' \t\n"\'><=;|&(:'
expect 'penstock rel' release
expect 'penstock bo' boot-config
expect 'penstock bind --f' --force
expect 'penstock release --a' --all
expect 'penstock boot-config --un' --undo
expect 'penstock bind ' 0000:01:00.0 0000:01:00.1 0000:2f:00.0 10000:e1:00.0
# What is before the last colon is there already.
expect 'penstock bind 0000:2' 2f:00.0
expect 'penstock bind 0000:01:' 00.0 00.1
expect 'penstock bind 01:00.' 00.0 00.1
expect 'penstock bind 2' 2f:00.0
expect 'penstock bind 0000:01:00.0 0000:01:00.1' 00.1
expect 'penstock bind --force 10000:e1:0' 00.0
expect 'penstock bind 7' ''
expect 'penstock release ' 0000:01:00.1 0000:2f:00.0
expect 'penstock run --device 0000:2' 2f:00.0
expect 'penstock run --serial p' pty
expect 'penstock run --memory ' ''
expect 'penstock vf ' create destroy set
expect 'penstock vf create ' 0000:01:00.0
expect 'penstock rom dump ' 0000:2f:00.0
expect 'penstock rom check tests/unit/test_compl' tests/unit/test_completion.sh
expect 'penstock nothing ' 0000:01:00.0 0000:01:00.1 0000:2f:00.0 10000:e1:00.0

# A user may have taken the colon out.
COMP_WORDBREAKS=$' \t\n"\'><=;|&('
expect 'penstock bind 0000:2' 0000:2f:00.0
expect 'penstock bind 01:00.1' 01:00.1

# In the middle of a line.
COMP_LINE='penstock bind 0000:2 --force' COMP_POINT=20
_penstock
if [ "${COMPREPLY[*]}" = 0000:2f:00.0 ]; then
	passed=$((passed + 1))
else
	failed=$((failed + 1))
	echo "FAIL in the middle of a line: ${COMPREPLY[*]}"
fi

echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
