# SPDX-License-Identifier: GPL-2.0-or-later
# bash completion for penstock: /usr/share/bash-completion/completions/penstock
#
# Commands and options are those that --help tells of. Addresses have colons, at which bash splits
# words (COMP_WORDBREAKS): the word is taken from the line, and replies leave out what is before its
# last colon, as bash keeps that.

_penstock_devices()
{
	local device pci=${PENSTOCK_ROOT-}/sys/bus/pci

	case $1 in
	release | detach)
		for device in "$pci"/drivers/*vfio[-_]pci/*:*:*.* "${PENSTOCK_ROOT-}"/run/penstock/devices/*:*; do
			[[ -e $device ]] && echo "${device##*/}"
		done | sort -u
		;;
	'vf create' | 'vf destroy') _penstock_with sriov_totalvfs ;;
	'vf set') _penstock_with physfn ;;
	'rom dump') _penstock_with rom ;;
	*) _penstock_with vendor ;;
	esac
}

# Machines that run: those with a socket.
_penstock_machines()
{
	local socket

	for socket in "${PENSTOCK_ROOT-}/run/penstock"/*.sock "${XDG_RUNTIME_DIR-}/penstock"/*.sock; do
		[[ -e $socket ]] || continue
		socket=${socket##*/}
		echo "${socket%.sock}"
	done
}

# Machines that a file describes.
_penstock_described()
{
	local file

	for file in "${PENSTOCK_ROOT-}/etc/penstock"/*.yaml "${XDG_CONFIG_HOME:-${HOME-}/.config}/penstock"/*.yaml; do
		[[ -e $file ]] || continue
		file=${file##*/}
		echo "${file%.yaml}"
	done
}

# Devices that have this file.
_penstock_with()
{
	local file

	for file in "${PENSTOCK_ROOT-}"/sys/bus/pci/devices/*/"$1"; do
		[[ -e $file ]] || continue
		file=${file%/*}
		echo "${file##*/}"
	done
}

_penstock_reply()
{
	mapfile -t COMPREPLY < <(compgen "$@" -- "$cur")
}

_penstock_files()
{
	compopt -o filenames 2> /dev/null
	_penstock_reply -f
}

_penstock_options()
{
	penstock "$1" --help 2> /dev/null | sed -n 's/^  *\(--[a-z-]*\).*/\1/p'
}

_penstock_addresses()
{
	local devices keep=

	devices=$(_penstock_devices "$1")
	_penstock_reply -W "$devices"
	# Without its domain, as people write it.
	[[ ${COMPREPLY-} ]] || _penstock_reply -W "${devices//0000:/}"
	[[ $COMP_WORDBREAKS == *:* ]] && keep=${cur%"${cur##*:}"}
	COMPREPLY=("${COMPREPLY[@]/#"$keep"}")
}

# The value of the option before it. False: that one takes none.
_penstock_value()
{
	case $1 in
	--device) _penstock_addresses run ;;
	--kernel | --initrd | --nvram | --disk | --vdpa | --cloud-init) _penstock_files ;;
	--firmware)
		_penstock_files
		[[ uefi == "$cur"* ]] && COMPREPLY+=(uefi)
		[[ bios == "$cur"* ]] && COMPREPLY+=(bios)
		;;
	--rtc) _penstock_reply -W 'utc local' ;;
	--smbios) _penstock_reply -W 'type=' ;;
	--cpu) _penstock_reply -W 'host' ;;
	--iommu) _penstock_reply -W 'auto iommufd type1' ;;
	--on-reboot | --on-crash) _penstock_reply -W 'reset pause stop' ;;
	--monitor) _penstock_reply -W 'unix:' ;;
	--on-device-error) _penstock_reply -W 'report detach stop' ;;
	--serial) _penstock_reply -W 'stdio pty none file:' ;;
	--user) _penstock_reply -u ;;
	--trust) _penstock_reply -W 'on off' ;;
	--method) _penstock_reply -W 'flr pm bus device_specific acpi af_flr cxl_bus' ;;
	--net) _penstock_reply -W 'tap= bridge= user' ;;
	--share)
		compopt -o filenames 2> /dev/null
		_penstock_reply -d
		;;
	--display) _penstock_reply -W 'vnc vnc=unix: vnc=127.0.0.1:' ;;
	--cmdline | --vsock | --memory | --cpus | --ports | --name | --hyperv-vendor | --mac | --vlan) COMPREPLY=() ;;
	*) return 1 ;;
	esac
}

_penstock()
{
	local line=${COMP_LINE:0:COMP_POINT} cur command
	local -a words

	cur=${line##*[[:space:]]}
	read -ra words <<< "${line%"$cur"}"
	command=${words[1]-}
	COMPREPLY=()
	case $command in
	vf | rom | disk) command+=${words[2]+ ${words[2]}} ;;
	esac
	# What a ROM is read into or checked against comes second.
	[[ $command == rom\ * ]] && command+=${words[3]+ }
	if [[ ! $command ]]; then
		_penstock_reply -W "$(penstock --help | sed -n 's/^  \([a-z-]*\) .*/\1/p')"
	elif _penstock_value "${words[-1]}"; then
		:
	elif [[ $cur == -* ]]; then
		_penstock_reply -W "$(_penstock_options "${command%% *}")"
	else
		# A machine comes before a device.
		[[ $command == @(attach|detach|screenshot) && ${words[-1]} == @("$command"|-*) ]] && command=machine
		case $command in
		list | new) ;;
		run | config) _penstock_files ;;
		screenshot) _penstock_files ;;
		start) _penstock_reply -W "$(_penstock_described)" ;;
		status) _penstock_reply -W "$(_penstock_described; _penstock_machines)" ;;
		stop | console | machine) _penstock_reply -W "$(_penstock_machines)" ;;
		vf) _penstock_reply -W 'create destroy set' ;;
		disk) _penstock_reply -W 'create info clone convert resize snapshot revert list' ;;
		disk\ *) _penstock_files ;;
		rom) _penstock_reply -W 'dump check' ;;
		'rom check '* | 'rom dump') _penstock_addresses 'rom dump' ;;
		rom\ *) _penstock_files ;;
		*) _penstock_addresses "$command" ;;
		esac
	fi
}

complete -F _penstock penstock
