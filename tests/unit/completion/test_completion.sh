#!/bin/bash
# What a shell offers at the end of lines, with this host's devices made up in a temporary directory;
# options and commands are those of PENSTOCK: test_completion.sh PENSTOCK bash|zsh|fish
set -u
cd "$(dirname "$0")/../../.." || exit 1
program=$1 shell=$2
passed=0 failed=0
temporary=$(mktemp -d)
trap 'rm -rf "$temporary"' EXIT

mkdir "$temporary/bin"
ln -s "$program" "$temporary/bin/penstock"
export PATH=$temporary/bin:$PATH PENSTOCK_ROOT=$temporary/host HOME=$temporary

pci=$PENSTOCK_ROOT/sys/bus/pci
# device ADDRESS DRIVER FILE...
device()
{
	local directory=$PENSTOCK_ROOT/sys/devices/$1

	mkdir -p "$directory" "$pci/devices" "$pci/drivers/$2" "$PENSTOCK_ROOT/run/penstock/devices"
	ln -s "../../../devices/$1" "$pci/devices/"
	ln -s "../../bus/pci/drivers/$2" "$directory/driver"
	ln -s "../../../../devices/$1" "$pci/drivers/$2/"
	shift 2
	(cd "$directory" && touch vendor "$@")
}
device 0000:01:00.0 igb sriov_totalvfs
device 0000:01:00.1 vfio-pci
device 0000:01:10.0 mlx5_vfio_pci physfn
device 0000:2f:00.0 amdgpu rom
device 10000:e1:00.0 nvme
mkdir "$pci/drivers/vfio-pci/module"
touch "$PENSTOCK_ROOT/run/penstock/devices/0000:2f:00.0" "$PENSTOCK_ROOT/run/penstock/demo.sock"
all='0000:01:00.0 0000:01:00.1 0000:01:10.0 0000:2f:00.0 10000:e1:00.0'

mkdir -p "$PENSTOCK_ROOT/etc/penstock" "$temporary/.config/penstock"
touch "$PENSTOCK_ROOT/etc/penstock/vm1.yaml" "$temporary/.config/penstock/desktop.yaml"
unset XDG_CONFIG_HOME

sorted()
{
	tr -s ' ' '\n' <<< "$1" | sort | tr '\n' ' '
}

# Lines, each with what is there to choose from, in any order: LINE|WORD WORD...
check()
{
	local lines=() wanted=() line words offered n=0

	while IFS='|' read -r line words; do
		lines+=("$line") wanted+=("$words")
	done
	mapfile -t offered < <(printf '%s\n' "${lines[@]}" |
		timeout 60 "$shell" "tests/unit/completion/offers.$shell")
	for line in "${lines[@]}"; do
		if [ "$(sorted "${offered[n]-(no answer)}")" = "$(sorted "${wanted[n]}")" ]; then
			passed=$((passed + 1))
		else
			failed=$((failed + 1))
			echo "FAIL $line"
			echo "  offers: ${offered[n]-(no answer)}"
			echo "  not:    ${wanted[n]}"
		fi
		n=$((n + 1))
	done
}

check << END
penstock |$("$program" --help | sed -n 's/^  \([a-z-]*\) .*/\1/p' | xargs)
penstock rel|release
penstock bo|boot-config
$(for command in $("$program" --help | sed -n 's/^  \([a-z-]*\) .*/\1/p'); do
	echo "penstock $command --|$("$program" "$command" --help | sed -n 's/^  *\(--[a-z-]*\).*/\1/p' | tr '\n' ' ')"
done)
penstock bind --f|--force
penstock release --a|--all
penstock boot-config --un|--undo
penstock bind |$all
penstock ls |$all
penstock doctor |$all
penstock reset |$all
penstock boot-config |$all
penstock bind 0000:2|0000:2f:00.0
penstock bind 0000:01:0|0000:01:00.0 0000:01:00.1
penstock bind --force 10000:e1:0|10000:e1:00.0
penstock bind 0000:01:00.0 0000:01:00.1|0000:01:00.1
penstock bind 7|
penstock stop |demo
penstock stop --force d|demo
penstock console |demo
penstock screenshot |demo
penstock screenshot demo tests/unit/test_inst|tests/unit/test_install.sh
penstock run --display |vnc vnc=unix: vnc=127.0.0.1:
penstock start |vm1 desktop
penstock start --foreground v|vm1
penstock status |vm1 desktop demo
penstock list |
penstock attach |demo
penstock attach demo |$all
penstock detach --force |demo
penstock detach demo |0000:01:00.1 0000:01:10.0 0000:2f:00.0
penstock run --monitor |unix:
penstock release |0000:01:00.1 0000:01:10.0 0000:2f:00.0
penstock run --device 0000:2|0000:2f:00.0
penstock run --device |$all
penstock run --iommu |auto iommufd type1
penstock run --rtc |local utc
penstock run --smbios |type=
penstock run --cpu |host
penstock run --on-reboot |pause reset stop
penstock run --on-crash s|stop
penstock run --on-device-error |report detach stop
penstock run --serial p|pty
penstock run --serial |stdio pty none file:
penstock run --memory |
penstock run tests/unit/test_inst|tests/unit/test_install.sh
penstock run --tpm tests/unit/test_inst|tests/unit/test_install.sh
penstock config --check tests/unit/test_inst|tests/unit/test_install.sh
penstock run --kernel tests/unit/test_inst|tests/unit/test_install.sh
penstock run --initrd tests/unit/test_inst|tests/unit/test_install.sh
penstock run --vdpa tests/unit/test_inst|tests/unit/test_install.sh
penstock bind --user roo|root
penstock reset --method f|flr
penstock vf |create destroy set
penstock vf create |0000:01:00.0
penstock vf destroy |0000:01:00.0
penstock vf set |0000:01:10.0
penstock vf set --trust |on off
penstock vf set --mac |
penstock disk |create info clone convert resize snapshot revert list
penstock disk info tests/unit/test_inst|tests/unit/test_install.sh
penstock disk convert old.img tests/unit/test_inst|tests/unit/test_install.sh
penstock rom |dump check
penstock rom dump |0000:2f:00.0
penstock rom dump 0000:2f:00.0 tests/unit/test_inst|tests/unit/test_install.sh
penstock rom check tests/unit/test_inst|tests/unit/test_install.sh
penstock rom check old.rom |0000:2f:00.0
END

# Without its domain, as people write it. Fish looks for the word everywhere in an address.
if [ "$shell" = fish ]; then
	check <<- END
		penstock bind 01:00.|0000:01:00.0 0000:01:00.1
	END
else
	check <<- END
		penstock bind 01:00.|01:00.0 01:00.1
		penstock bind 2|2f:00.0
	END
fi

if [ "$shell" = bash ]; then
	check <<- END
		penstock bind 0000:2^ --force|0000:2f:00.0
	END
	# A user may have taken the colon out.
	export BREAKS=$' \t\n"\'><=;|&('
	check <<- END
		penstock bind 0000:2|0000:2f:00.0
		penstock bind 01:00.1|01:00.1
	END
fi

echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
