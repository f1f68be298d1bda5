# SPDX-License-Identifier: GPL-2.0-or-later
"""What a guest's set-up of MSI-X vectors costs the VMM, in ioctls.

The disk's driver takes no more vectors than there are CPUs, so the guest's shell does what Linux's
MSI-X code does, for any number of them: the same accesses, in the same order.
"""

IOCTL = "syscalls/sys_enter_ioctl"
IOCTLS = {IOCTL: "cmd"}         # to count
CAPABILITIES, MSIX = 0x34, 0x11
ENABLE, MASK_ALL = 0x8000, 0x4000

REQUESTS = {
    0x4008ae6a: "KVM_SET_GSI_ROUTING",
    0x4020ae76: "KVM_IRQFD",
    0x3b6e: "VFIO_DEVICE_SET_IRQS",
    0x4020ae46: "KVM_SET_USER_MEMORY_REGION",
    0x40a0ae49: "KVM_SET_USER_MEMORY_REGION",       # its successor
}
NAMES = tuple(dict.fromkeys(REQUESTS.values()))

# A vector's entry: address, its upper half, data, and the mask bit. Linux fills it while masked.
SET_UP = """
control() { printf "$1" | dd of=$device/config bs=2 seek=$((capability / 2 + 1)) conv=notrunc 2>/dev/null; }
each() { i=0; while [ $i -lt $count ]; do "$1" $((table + 16 * i)); i=$((i + 1)); done; }
mask() { devmem $(($1 + 12)) 32 1; }
fill() { devmem $1 32 0xfee00000; devmem $(($1 + 4)) 32 0; devmem $(($1 + 8)) 32 0xf2; }
unmask() { devmem $(($1 + 12)) 32 0; }
switch_on() { control '\\000\\300'; each mask; control '\\000\\200'; each fill; each unmask; }
switch_off() { each mask; control '\\000\\000'; }
"""


class Msix:
    """The disk's MSI-X capability, without the disk's driver."""

    def __init__(self, guest):
        self._guest = guest
        device = guest.sh("readlink -f /sys/class/nvme/nvme0/device").strip()
        guest.sh(f"echo {device[-12:]} > {device}/driver/unbind; echo 1 > {device}/enable")
        dump = guest.sh(f"od -An -v -tx1 {device}/config")
        self._config = bytes.fromhex("".join(dump.split()))
        capability = self._find()
        table = int.from_bytes(self._config[capability + 4:capability + 8], "little")
        bars = guest.sh(f"cat {device}/resource").splitlines()
        address = int(bars[table & 7].split()[0], 16) + (table & ~7)
        self.vectors = 1 + int.from_bytes(self._config[capability + 2:capability + 4], "little") % 2048
        for line in SET_UP.strip().splitlines():
            guest.sh(line)
        guest.sh(f"device={device} capability={capability} table={address}")

    def _find(self):
        at = self._config[CAPABILITIES]
        while at and self._config[at] != MSIX:
            at = self._config[at + 1]
        if not at:
            raise RuntimeError("the disk has no MSI-X capability")
        return at

    def ioctls(self, counting, count):
        """Requests by name, to switch on `count` vectors; they are off again afterwards."""
        self._guest.sh(f"count={count}")
        counting.restart()
        self._guest.sh("switch_on")
        counting.pause()
        made = counting.counts(IOCTL)
        self._guest.sh("switch_off")
        result = dict.fromkeys(NAMES, 0)
        for (request,), number in made.items():
            if request in REQUESTS:
                result[REQUESTS[request]] += number
        return result
