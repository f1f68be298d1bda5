"""Devices that the kernel serves: a network card at a tap, a vsock; and what passt and virtiofsd serve."""

import contextlib
import hashlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import hang
from bad_input import FAILURE
from harness import BOOT_SECONDS, NVME_A, USER, Machine, Penstock, as_user, check, refused, run_guest, test
from passthrough import bulk_peer

TAP, HOST_ADDRESS = "vmtap", "10.97.0.1"
BRIDGE, BRIDGE_ADDRESS = "vmbr", "10.98.0.1"
MAC, CID = "52:54:00:97:00:01", "7"
NET, VSOCK = ["--net", f"tap={TAP},mac={MAC}"], ["--vsock", CID]


@contextlib.contextmanager
def interface(name, address, add):
    """One of the host's, with its address; add: the words of ip(8) that make it."""
    subprocess.run(["modprobe", "vhost_net"], check=True)
    subprocess.run(["ip", *add], check=True)
    try:
        subprocess.run(["ip", "address", "add", f"{address}/24", "dev", name], check=True)
        subprocess.run(["ip", "link", "set", name, "up"], check=True)
        yield
    finally:
        subprocess.run(["ip", "link", "del", name], check=True)


def tap():
    return interface(TAP, HOST_ADDRESS, ["tuntap", "add", TAP, "mode", "tap"])


def bridge():
    return interface(BRIDGE, BRIDGE_ADDRESS, ["link", "add", BRIDGE, "type", "bridge"])


def ports():
    return os.listdir(f"/sys/class/net/{BRIDGE}/brif")


@contextlib.contextmanager
def shared_directory(data, owner=0):
    """One with a file, and with an answer to each that a guest leaves; yields it and what guests have left."""
    seen, done = [], threading.Event()

    def answer():
        while not done.wait(0.1):
            left = Path(directory, "guest")
            with contextlib.suppress(FileNotFoundError):      # the guest has been quicker
                if Path(directory, "host").exists():
                    continue
                seen.append((left.read_text(), left.stat().st_uid))
                Path(directory, "host.new").write_text("from-the-host\n")
                os.chown(Path(directory, "host.new"), owner, owner)
                Path(directory, "host.new").rename(Path(directory, "host"))

    with tempfile.TemporaryDirectory() as directory:
        Path(directory, "file").write_bytes(data)
        os.chown(directory, owner, owner)
        thread = threading.Thread(target=answer)
        thread.start()
        try:
            yield directory, seen
        finally:
            done.set()
            thread.join()


def vsock_server():
    subprocess.run(["modprobe", "vhost_vsock"], check=True)
    server = socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)
    server.bind((socket.VMADDR_CID_ANY, 7777))
    server.listen()
    return server


@test(only=Penstock)
def a_guest_at_a_tap_and_a_vsock():
    """Both at once, beside a passed disk and a directory, and again after a reboot of the guest."""
    data = os.urandom(1 << 20)
    with tap(), bulk_peer(address=HOST_ADDRESS) as by_net, bulk_peer(4 << 20, server=vsock_server()) as by_vsock, \
            shared_directory(data) as (directory, by_share):
        output = run_guest("net,vsock,share,reboot", cmdline=f"net.peer={HOST_ADDRESS}", cpus=2, devices=[NVME_A],
                           more=[*NET, *VSOCK, "--share", f"{directory},tag=lab"])
        check(os.stat(f"{directory}/zeros").st_size == 1 << 20, "what the guest has written is not there")
    check(output.count(hashlib.md5(data).hexdigest()) == 2, "the guest has read something else")
    check(by_share == [("from-the-guest\n", 0)] * 2, f"the host has found {by_share}")
    check(output.count(MAC) == 2, f"the guest's card does not have {MAC}")
    check((by_net, by_vsock) == ([True] * 2, [True] * 2), f"the host has received {by_net} by the tap, {by_vsock} by "
                                                          f"the vsock")


@test(only=Penstock)
def what_virtio_needs_is_looked_at_first():
    kernel = Penstock.command
    refused(kernel(more=["--net", "tap=nowhere"]), FAILURE, "nowhere", "no network interface", "ip tuntap add nowhere")
    refused(kernel(more=["--net", "tap=lo"]), FAILURE, "lo", "is no tap")
    subprocess.run(["modprobe", "vhost_vsock"], check=True)
    refused(kernel(more=["--net", "bridge=nowhere"]), FAILURE, "nowhere", "no bridge", "ip link add nowhere")
    refused(kernel(more=["--share", "/nowhere"]), FAILURE, "/nowhere", "cannot be shared")
    with tap(), bridge(), Machine("wait", more=[*NET, *VSOCK, "--net", f"bridge={BRIDGE}"]) as machine:
        machine.expect("WAITING")
        check(len(ports()) == 1, f"the bridge has the ports {ports()}")
        refused(kernel(more=NET), FAILURE, TAP, "another program")
        refused(kernel(more=VSOCK), FAILURE, "vsock", f"another VM has the CID {CID}")
        machine.process.terminate()
        machine.wait()
        check(Path(f"/sys/class/net/{TAP}").exists(), "the tap is gone with the machine")
        check(not ports(), f"the bridge has the ports {ports()} of a machine that has ended")


def ask_guest(port, seconds=60):
    """What the guest answers at a port of the host's. It may not listen yet."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=5) as link:
            link.sendall(b"to-the-guest\n")
            link.shutdown(socket.SHUT_WR)
            if answer := b"".join(iter(lambda: link.recv(100), b"")):
                return answer
        time.sleep(0.2)
    return b""


def find_passt(machine):
    found = [pid for pid in machine.descendants() if Path(f"/proc/{pid}/comm").read_text().startswith("passt")]
    check(len(found) == 1, f"passt is {found}")
    return found[0]


@contextlib.contextmanager
def web_server(data, address="10.99.0.1", port=7777):
    """What the host has, as /file."""
    with tempfile.TemporaryDirectory() as directory:
        Path(directory, "file").write_bytes(data)
        with subprocess.Popen([sys.executable, "-m", "http.server", "--bind", address, "--directory", directory,
                               str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
            try:
                yield
            finally:
                server.kill()


@contextlib.contextmanager
def name_server(address):
    """The host's, which knows one name: any is at this address."""
    resolv, done = Path("/etc/resolv.conf"), threading.Event()
    before = resolv.read_bytes() if resolv.exists() else None

    def serve():
        while not done.is_set():
            with contextlib.suppress(TimeoutError):
                query, peer = server.recvfrom(512)
                question = query[12:query.index(b"\0", 12) + 5]
                is_ipv4 = question[-4:] == b"\0\1\0\1"
                answer = b"\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4" + socket.inet_aton(address) if is_ipv4 else b""
                server.sendto(query[:2] + b"\x81\x80\0\1" + bytes([0, is_ipv4]) + b"\0\0\0\0" + question + answer, peer)

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("10.99.0.1", 53))
        server.settimeout(0.5)
        resolv.write_text("nameserver ::1\nnameserver 10.99.0.1\n")
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()
            resolv.unlink()
            if before is not None:
                resolv.write_bytes(before)


# The bulk transfer of a_guest_at_a_tap_and_a_vsock() is not for passt 2025_05_03: it has stalled for more than a minute
# in two of ten on a busy machine, while guest, passt and host were idle.
@test(only=Penstock, long=True)
def a_guest_on_a_network_of_its_own():
    """An address by DHCP, TCP both ways, names; a port that is taken is refused; and the guest lives on when passt is killed."""
    user, data = ["--net", "user,hostfwd=tcp:2222-:2300"], os.urandom(1 << 20)
    with web_server(data), name_server("10.11.12.13"), Machine("user-net", more=user) as machine:
        machine.expect("LISTENING", BOOT_SECONDS)
        check("got 10.0.2.15/24, by 10.0.2.2, names by 10.0.2.3" in machine.output, "the guest has another address")
        check(hashlib.md5(data).hexdigest() in machine.output, "the guest has received something else")
        check("10.11.12.13" in machine.output, "the guest cannot resolve a name")
        check(b"from-the-guest" in ask_guest(2222), "the host did not reach the guest")
        passt = find_passt(machine)
        uid = os.stat(f"/proc/{passt}").st_uid
        check(uid >= 0x70000000 and os.listdir(f"/proc/{passt}/root") == [], f"passt is not confined: uid {uid}")
        refused(Penstock.command(more=user), FAILURE, "net0", "a port is taken", "hostfwd=")
        os.kill(passt, signal.SIGKILL)
        machine.type("alive\n")
        machine.succeed("user-net")
        check("net0: its back end has ended" in machine.errors(), f"it is not told that passt is gone: {machine.errors()}")
    check("still here: alive" in machine.output, "the guest was gone with passt")


def find_virtiofsd(machine):
    """A parent comes before its child."""
    found = [pid for pid in machine.descendants() if hang.read(f"/proc/{pid}/comm") == "virtiofsd"]
    check(len(found) == 2, f"virtiofsd is {found}, not one that waits and one in its namespaces")
    return found


@test(only=Penstock, long=True)
def a_users_guest_shares_a_directory():
    """With that user's rights, and nothing else of the host's; and it lives on when virtiofsd is killed."""
    data = os.urandom(1 << 20)
    with shared_directory(data, owner=USER) as (directory, seen), \
            Machine("share,wait", before=as_user(0), more=["--share", f"{directory},tag=lab"]) as machine:
        machine.expect("WAITING", BOOT_SECONDS)
        check(hashlib.md5(data).hexdigest() in machine.output, "the guest has read something else")
        check(seen == [("from-the-guest\n", USER)], f"the host has found {seen}")
        pid = find_virtiofsd(machine)[1]
        check(sorted(os.listdir(f"/proc/{pid}/root")) == sorted(os.listdir(directory)), "virtiofsd sees something else")
        status = Path(f"/proc/{pid}/status").read_text()
        for word in (f"Uid:\t{USER}\t{USER}\t", "Seccomp:\t2", "NoNewPrivs:\t1"):
            check(word in status, f"virtiofsd is not confined: {status}")
        for net in ("net", "mnt", "pid", "user"):
            check(os.readlink(f"/proc/{pid}/ns/{net}") != os.readlink(f"/proc/self/ns/{net}"), f"it is in our {net}")
        os.kill(pid, signal.SIGKILL)
        end = time.monotonic() + 60
        while "share0: its back end has ended" not in machine.errors():
            check(time.monotonic() < end, f"that it is gone is not told: {machine.errors()}")
            time.sleep(0.1)
        check(machine.process.poll() is None, "the machine is gone with virtiofsd")
        machine.process.terminate()
        machine.wait()


@test(only=Penstock, long=True)
def a_users_guest_at_a_bridge():
    """By qemu-bridge-helper, which says what it lacks until root has allowed all of it."""
    rules, words = Path("/etc/qemu/bridge.conf"), ["--net", f"bridge={BRIDGE},mac={MAC}"]
    user = [*as_user(0), *Penstock.command(more=words)]
    with bridge(), bulk_peer(address=BRIDGE_ADDRESS) as seen:
        os.chmod("/dev/vhost-net", 0o666)
        os.chmod("/dev/net/tun", 0o666)      # as udev does
        helper, = Path("/usr").glob("lib*/qemu/qemu-bridge-helper")
        rules.parent.mkdir(exist_ok=True)
        rules.unlink(missing_ok=True)
        refused(user, FAILURE, BRIDGE, f"echo allow {BRIDGE} >>{rules}")
        rules.write_text("allow other\n")
        refused(user, FAILURE, BRIDGE, "denied", f"echo allow {BRIDGE} >>{rules}")
        rules.write_text(f"allow {BRIDGE}\n")
        refused(user, FAILURE, BRIDGE, "not set-uid", f"dpkg-statoverride .* 4755 {helper}")
        helper.chmod(0o4755)
        output = run_guest("net", cmdline=f"net.peer={BRIDGE_ADDRESS}", before=as_user(0), more=words)
        check(not ports(), f"the bridge has the ports {ports()} of a machine that has ended")
        helper.chmod(0o755)
        rules.unlink()
        os.chmod("/dev/vhost-net", 0o600)
        os.chmod("/dev/net/tun", 0o600)
    check(MAC in output, f"the guest's card does not have {MAC}")
    check(seen == [True], f"the host has received {seen}")
