"""A client of QMP that nobody here wrote: Ganeti's, which Debian has, drives a machine.

Ganeti's module is as it is. Of what it stands on, the packages' own __init__.py are left out: they load all of
Ganeti, and with it what the lab's root does not have.
"""

import importlib
import sys
import types

from control import NAME, SOCKET
from harness import (BOOT_SECONDS, E1000E, NVME_A, QUICK_SECONDS, RUN_SECONDS, Machine, Penstock, check,
                     driver, test)

SHARE = "/usr/share/ganeti/3.1"


def ganeti_monitor():
    for name in ("ganeti", "ganeti.utils", "ganeti.hypervisor", "ganeti.hypervisor.hv_kvm"):
        package = types.ModuleType(name)
        package.__path__ = [f"{SHARE}/{name.replace('.', '/')}"]
        sys.modules[name] = package
    sys.modules["ganeti"].utils = sys.modules["ganeti.utils"]
    sys.modules["bitarray"] = types.SimpleNamespace(bitarray=None)
    return importlib.import_module("ganeti.hypervisor.hv_kvm.monitor")


def expect(listener, event):
    """One that has no data, of which wait_for_qmp_event() knows nothing."""
    while listener.recv_qmp()["event"] != event:
        pass


def pci_devices(client):
    root, = client.execute_qmp("query-pci")
    return [function["qdev_id"] for port in root["devices"] if "pci_bridge" in port
            for function in port["pci_bridge"]["devices"]]


@test(only=Penstock)
def a_client_of_others():
    ganeti = ganeti_monitor()
    with Machine("wait", name=NAME, devices=[E1000E], cpus=2) as machine:
        machine.expect("WAITING", BOOT_SECONDS)
        client, listener = ganeti.QmpConnection(SOCKET), ganeti.QmpConnection(SOCKET)
        # It waits 5 seconds for an answer, and this host is an emulated one.
        client.timeout = listener.timeout = RUN_SECONDS
        with client, listener:
            check(client.version >= (8, 0, 0) and client.package.startswith("penstock"), f"{client.package}")
            check(client.execute_qmp("query-version")["package"] == client.package, "another package")
            check(client.execute_qmp("query-name") == {"name": NAME}, "another name")
            check(len(client.GetCpuInformation()) == 2, "another number of CPUs")
            client.StopGuestEmulation()
            expect(listener, "STOP")
            check(client.execute_qmp("query-status") == {"status": "paused", "running": False}, "it runs")
            client.ContinueGuestEmulation()
            expect(listener, "RESUME")
            client.execute_qmp("device_add", {"driver": "vfio-pci", "host": NVME_A, "id": "disk7"})
            check("disk7" in pci_devices(client), "it sees no device that it has added")
            client.execute_qmp("device_del", {"id": "disk7"})
            deleted = listener.wait_for_qmp_event(["DEVICE_DELETED"], RUN_SECONDS)
            check(deleted and deleted["device"] == "disk7", "no DEVICE_DELETED")
            check("disk7" not in pci_devices(client), "it still sees the device")
            check(driver(NVME_A) == "nvme", "its driver has it not back")
            check("migrate" not in client.supported_commands, "a machine with devices migrates")
            client.Powerdown()
            expect(listener, "POWERDOWN")
            client.execute_qmp("quit")
            shutdown = listener.wait_for_qmp_event(["SHUTDOWN"], RUN_SECONDS)
            check(shutdown and shutdown["reason"] == "host-qmp-quit", "no SHUTDOWN")
        check(machine.wait(QUICK_SECONDS) == 0, machine.last_words())
