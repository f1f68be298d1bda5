# SPDX-License-Identifier: GPL-2.0-or-later
# fish completion for penstock. Commands and options are those that --help tells of.

# Devices that have this file, or "vfio": those that penstock has bound, or vfio-pci has; each with its
# driver.
function __penstock_devices
    for device in $PENSTOCK_ROOT/sys/bus/pci/devices/*
        set -l name (path basename $device)
        set -l driver (path basename (path resolve $device/driver))
        test "$driver" = driver; and set driver 'no driver'
        if test $argv[1] = vfio
            string match -qr 'vfio[-_]pci$' -- $driver
            or test -e $PENSTOCK_ROOT/run/penstock/devices/$name
        else
            test -e $device/$argv[1]
        end
        and printf '%s\t%s\n' $name $driver
    end
end

# Machines that run: those with a socket.
function __penstock_machines
    for socket in $PENSTOCK_ROOT/run/penstock/*.sock $XDG_RUNTIME_DIR/penstock/*.sock
        path basename $socket | string replace -r '\.sock$' ''
    end
end

# Machines that a file describes.
function __penstock_described
    set -l config $XDG_CONFIG_HOME
    test -n "$config"; or set config $HOME/.config
    for file in $PENSTOCK_ROOT/etc/penstock/*.yaml $config/penstock/*.yaml
        path basename $file | string replace -r '\.yaml$' ''
    end
end

function __penstock_commands
    penstock --help | string replace -rf '^  ([a-z-]+) +(.*)' '$1\t$2'
end

function __penstock_options
    set -l command (commandline -opc)[2]
    penstock $command --help 2>/dev/null | string replace -rf '^ +(--[a-z-]+) *(.*)' '$1\t$2'
end

# Is this the command, with this word after it?
function __penstock_is
    set -l words (commandline -opc)
    contains -- "$words[2]" $argv; or contains -- "$words[2] $words[3]" $argv
end

# Does the word before the cursor want this for its value?
function __penstock_wants
    contains -- (commandline -opc)[-1] $argv
end

# Are there this many words before the cursor?
function __penstock_at
    test (count (commandline -opc)) -eq $argv[1]
end

set -l valued --device --kernel --firmware --nvram --initrd --iommu --serial --user --trust --method --cmdline --memory \
    --cpus --cpu --rtc --smbios --ports --name --hyperv-vendor --mac --vlan --monitor --on-reboot --on-crash --on-device-error --disk --cloud-init --net --share --vsock --vdpa --display

complete -c penstock -f
complete -c penstock -n '__penstock_at 1' -a '(__penstock_commands)'
complete -c penstock -n 'string match -q -- "-*" (commandline -ct)' -a '(__penstock_options)'
complete -c penstock -n '__penstock_wants --device' -a '(__penstock_devices vendor)'
complete -c penstock -n '__penstock_wants --kernel --initrd --nvram --firmware --disk --cloud-init --vdpa' -F
complete -c penstock -n '__penstock_wants --firmware' -a 'uefi bios'
complete -c penstock -n '__penstock_wants --rtc' -a 'utc local'
complete -c penstock -n '__penstock_wants --smbios' -a type=
complete -c penstock -n '__penstock_wants --cpu' -a host
complete -c penstock -n '__penstock_wants --net' -a 'tap= bridge= user'
complete -c penstock -n '__penstock_wants --share' -a '(__fish_complete_directories)'
complete -c penstock -n '__penstock_wants --display' -a 'vnc vnc=unix: vnc=127.0.0.1:'
complete -c penstock -n '__penstock_wants --iommu' -a 'auto iommufd type1'
complete -c penstock -n '__penstock_wants --on-reboot --on-crash' -a 'reset pause stop'
complete -c penstock -n '__penstock_wants --serial' -a 'stdio pty none file:'
complete -c penstock -n '__penstock_wants --monitor' -a 'unix:'
complete -c penstock -n '__penstock_wants --on-device-error' -a 'report detach stop'
complete -c penstock -n '__penstock_wants --user' -a '(__fish_complete_users)'
complete -c penstock -n '__penstock_wants --trust' -a 'on off'
complete -c penstock -n '__penstock_wants --method' \
    -a 'flr pm bus device_specific acpi af_flr cxl_bus'

set -l plain "not __penstock_wants $valued; and"
complete -c penstock -n "$plain __penstock_is run config" -F
complete -c penstock -n "$plain __penstock_is bind boot-config doctor ls reset" \
    -a '(__penstock_devices vendor)'
complete -c penstock -n "$plain __penstock_is release" -a '(__penstock_devices vfio)'
# A machine comes before a device.
set -l after 'string match -qr "^(attach|detach|-.*)\$" -- (commandline -opc)[-1]'
complete -c penstock -n '__penstock_is start status' -a '(__penstock_described)'
complete -c penstock -n '__penstock_is status' -a '(__penstock_machines)'
complete -c penstock -n '__penstock_is stop console' -a '(__penstock_machines)'
complete -c penstock -n '__penstock_at 2; and __penstock_is screenshot' -a '(__penstock_machines)'
complete -c penstock -n '__penstock_at 3; and __penstock_is screenshot' -F
complete -c penstock -n "__penstock_is attach detach; and $after" -a '(__penstock_machines)'
complete -c penstock -n "__penstock_is attach; and not $after" -a '(__penstock_devices vendor)'
complete -c penstock -n "__penstock_is detach; and not $after" -a '(__penstock_devices vfio)'
complete -c penstock -n "$plain __penstock_is 'vf create' 'vf destroy'" \
    -a '(__penstock_devices sriov_totalvfs)'
complete -c penstock -n "$plain __penstock_is 'vf set'" -a '(__penstock_devices physfn)'
complete -c penstock -n '__penstock_at 3; and __penstock_is "rom dump"' \
    -a '(__penstock_devices rom)'
complete -c penstock -n '__penstock_at 4; and __penstock_is "rom dump"' -F
complete -c penstock -n '__penstock_at 3; and __penstock_is "rom check"' -F
complete -c penstock -n '__penstock_at 4; and __penstock_is "rom check"' \
    -a '(__penstock_devices rom)'
complete -c penstock -n '__penstock_at 2; and __penstock_is vf' -a 'create destroy set'
complete -c penstock -n '__penstock_at 2; and __penstock_is disk' \
    -a 'create info clone convert resize snapshot revert list'
complete -c penstock -n 'not __penstock_at 2; and __penstock_is disk' -F
complete -c penstock -n '__penstock_at 2; and __penstock_is rom' -a 'dump check'
