"""CPUs as a guest wants them: their topology, where they run, what they say of themselves."""

import re
import time
from pathlib import Path

import harness
from harness import (BOOT_SECONDS, NVME_A, QUICK_SECONDS, Machine, Penstock, check, refused, run_guest, test,
                     wait_until)

GROUP = Path("/sys/fs/cgroup/few-cpus")


@test(only=Penstock, limit=600)
def a_topology_is_the_guests():
    for cpus, wanted in (("6,sockets=1,cores=3,threads=2", "1,3,2"), ("4,sockets=2", "2,2,1"), ("3", "1,3,1")):
        run_guest("topology,cpus", cmdline=f"cpus.topology={wanted} cpus.count={cpus[0]}", cpus=cpus)


def threads(pid):
    """The host's CPUs that each thread may run on, by its id: of ours, for KVM has one of its own in there, too."""
    found = {}
    for task in Path(f"/proc/{pid}/task").iterdir():
        if not (task / "comm").read_text().startswith("penstock"):
            continue
        lines = (task / "status").read_text().splitlines()
        found[int(task.name)] = next(line.split()[1] for line in lines if line.startswith("Cpus_allowed_list"))
    return found


@test(only=Penstock)
def vcpus_are_pinned_and_all_else_is_elsewhere():
    """Of two CPUs one is the guest's."""
    with Machine("wait", cpus="1,pin=1", devices=[NVME_A]) as machine:
        machine.expect("WAITING", BOOT_SECONDS)
        broker, inside = machine.process.pid, machine.descendants()[-1]
        found = threads(inside)
        check(sorted(found.values()).count("1") == 1, f"not one thread is on CPU 1: {found}")
        check(set(found.values()) == {"0", "1"}, f"threads are elsewhere, too: {found}")
        check(set(threads(broker).values()) == {"0"}, f"the broker is at {threads(broker)}")
        machine.process.terminate()
        machine.wait(QUICK_SECONDS)
    with Machine("cpus", cpus="2,pin=1+0", cmdline="cpus.count=2") as machine:
        machine.succeed("cpus")


@test(only=Penstock)
def cpus_that_cannot_be_had_are_refused():
    refused(Penstock.command(cpus="2,pin=1-2", devices=[NVME_A]), 1, "CPU 2", "the host has 0-1")
    refused(Penstock.command(cpus="3,cores=2", devices=[NVME_A]), 2, "do not make 3 CPUs")
    (GROUP.parent / "cgroup.subtree_control").write_text("+cpuset")
    GROUP.mkdir()
    (GROUP / "cpuset.cpus").write_text("0")
    inside = ["sh", "-c", f'echo $$ >{GROUP}/cgroup.procs && exec "$@"', "sh"]
    refused([*inside, *Penstock.command(cpus="1,pin=1", devices=[NVME_A])], 1, "CPU 1", "keeps it for others")
    check(harness.driver(NVME_A) == "nvme", f"the disk is at {harness.driver(NVME_A)}")
    wait_until(lambda: not (GROUP / "cgroup.procs").read_text(), QUICK_SECONDS, "somebody is left in the group")
    GROUP.rmdir()
    (GROUP.parent / "cgroup.subtree_control").write_text("-cpuset")


@test(only=Penstock)
def a_feature_is_left_out():
    """The host's CPU has these, and a guest's without its say."""
    run_guest("features", cmdline="cpu.without=avx2,fma,f16c,avx cpu.with=sse4_2,aes", cpus="2",
              more=["--cpu", "host,-avx,+aes"])
    refused(Penstock.command(devices=[NVME_A], more=["--cpu", "host,+avx512f"]), 1, "feature avx512f")
    refused(Penstock.command(devices=[NVME_A], more=["--cpu", "host,-penstock"]), 2, "'penstock' is none of the features")


def hypervisor(detect, kvm, more=(), tests="hypervisor", cmdline=""):
    return run_guest(tests, cmdline=f"hypervisor.detect={detect} hypervisor.kvm={kvm} {cmdline}", cpus="2", more=more)


@test(only=Penstock, limit=600)
def a_hypervisor_shows_itself_as_the_user_wants():
    """Linux looks for it as systemd-detect-virt does, and says what it has found."""
    hypervisor("kvm", "0x40000000")
    hypervisor("microsoft", "0x40000100", ["--hyperv"], "hypervisor,linux-sees", "sees=KVM")
    refused(Penstock.command(devices=[NVME_A], more=["--hide-hypervisor"]), 2, "needs --firmware")
    refused(Penstock.command(devices=[NVME_A], more=["--hide-hypervisor", "--hyperv-vendor", "penstock"]), 2,
            "needs --firmware")
    hypervisor("other", "0x40000100", ["--hyperv-vendor", "penstock"], cmdline="hypervisor.vendor=penstock")


@test(only=Penstock, limit=600)
def linux_runs_on_enlightenments():
    """With Hyper-V's as all that it sees, Linux takes its clock, timers, IPIs and TLB flushes from these."""
    output = hypervisor("microsoft", "none", ["--hyperv", "--hide-hypervisor", "--device", NVME_A],
                        "hypervisor,linux-sees,cpus,nvme", "sees=Hyper-V stamp=enlightened")
    check("hyperv_clocksource" in output, f"its clock is another one: {output}")


UUID = "5b7c2e10-93d4-4a6f-8e21-0c9f3d6b7a58"
IDENTITY = ["--smbios", f"type=1,manufacturer=Dam,, Sluice & Co.,uuid={UUID},serial=S1", "--smbios", "type=0,vendor=Weir",
            "--smbios", "type=2,product=Board", "--smbios", "type=3,asset=A7", "--smbios", "type=11,value=oem:one,value=oem:two"]


def check_identity(output):
    for line in ("bios_vendor=Weir", "sys_vendor=Dam, Sluice & Co.", "product_name=Virtual Machine", "product_serial=S1",
                 f"product_uuid={UUID}", "board_name=Board", "chassis_asset_tag=A7", "oem=one", "oem=two"):
        check(f"identity: {line}\n" in output.replace("\r", ""), f"no {line} in: {output}")


@test(only=Penstock)
def a_machine_is_what_its_user_says():
    """Linux takes its RTC for UTC."""
    now = time.time()
    output = run_guest("clock,identity", before=["env", "TZ=IST-5:30"], more=["--rtc", "local", *IDENTITY])
    check_identity(output)
    found = int(re.search(r"clock: (\d+)", output)[1])
    check(-5 < found - now - 19800 < 120, f"the guest's clock is {found - now} s ahead")


def pages_by_node(pid):
    """KiB of shared memory, which guest RAM is."""
    found = {}
    for line in Path(f"/proc/{pid}/numa_maps").read_text().splitlines():
        words = dict(word.split("=", 1) for word in line.split()[2:] if "=" in word)
        if "file" not in words or int(words.get("mapmax", 1)) > 1:
            continue
        for key, count in words.items():
            if re.fullmatch(r"N\d+", key):
                found[key] = found.get(key, 0) + int(count) * int(words["kernelpagesize_kB"])
    return found


@test(host="numa", only=Penstock)
def guest_ram_is_next_to_the_device():
    """The lab's devices are at no node: one is put at the second, then at the first."""
    for node in (1, 0):
        (harness.device(NVME_A) / "numa_node").write_text(f"{node}\n")
        with Machine("nvme", devices=[NVME_A], cmdline="stamp=near", more=["--prealloc"]) as machine:
            machine.expect("USERSPACE-UP", BOOT_SECONDS)
            found = pages_by_node(machine.descendants()[-1])
            print(f"   node {node}: {found}", flush=True)
            check(found.get(f"N{node}", 0) > 500 << 10, f"the guest's RAM is at {found}, not at node {node}")
            check(f"guest RAM is on NUMA node {node}" in machine.errors(), machine.errors())
            machine.succeed("nvme")


def kvm_counter(name):
    return int((Path("/sys/kernel/debug/kvm") / name).read_text())


@test(only=Penstock)
def a_dedicated_cpu_waits_without_an_exit():
    """Its disk's interrupt ends a HLT that KVM does not see."""
    refused(Penstock.command(devices=[NVME_A], more=["--dedicated"]), 2, "--dedicated needs")
    for more, least, most in (["--dedicated"], 0, 0), ([], 100, 1 << 30):
        with Machine(devices=[NVME_A], cpus="1,pin=1", more=more) as machine:
            machine.expect("# ", BOOT_SECONDS)
            before = kvm_counter("halt_exits")
            machine.type("reads /dev/nvme0n1 1 1000; echo 'and do''ne'\n")
            machine.expect("and done")
            found = kvm_counter("halt_exits") - before
            print(f"   {more}: {found} exits by HLT for 1000 reads", flush=True)
            check(least <= found <= most, f"{more}: {found} exits by HLT")
            machine.type("poweroff -f\n")
            machine.succeed()
