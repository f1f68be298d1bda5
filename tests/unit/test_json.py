"""What --json prints, in success and failure, is what docs/json.schema.json says: no key more and none
less. docs/json.md names every key, and the schema has each that it names.

test_json.py PENSTOCK UNPACK
"""

import json
import os
import re
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import unittest
import unittest.mock
from pathlib import Path

import jsonschema

PROGRAM, UNPACK = sys.argv[1:3]
TOP = Path(__file__).resolve().parents[2]
SCHEMA = json.loads((TOP / "docs/json.schema.json").read_text())
HOSTS = sorted(path.stem for path in (TOP / "tests/hosts").glob("*.host"))
NULL_OR_EMPTY = (None, [], "", {})


def objects(schema):
    """All object schemas in it."""
    if isinstance(schema, dict):
        if "properties" in schema:
            yield schema
        for part in schema.values():
            yield from objects(part)
    elif isinstance(schema, list):
        for part in schema:
            yield from objects(part)


def keys(name):
    return {key for schema in objects(SCHEMA["$defs"][name]) for key in schema["properties"]}


def all_keys(name):
    """With those of what it refers to."""
    used = re.findall(r'#/\$defs/([^"]+)"', json.dumps(SCHEMA["$defs"][name]))
    return keys(name).union(*map(all_keys, used))


def validator(name):
    return jsonschema.Draft202012Validator({"$defs": SCHEMA["$defs"], "$ref": f"#/$defs/{name}"})


# A user's program must bear keys that are added; a test must not.
for _schema in objects(SCHEMA):
    _schema["additionalProperties"] = False


def rom_image(kind, last, vendor=0x10de):
    """One of an option ROM for laptop-d3's graphics card: legacy BIOS (0), UEFI (3) or what else."""
    image = struct.pack("<HHIHH10xHHxx4sHHHHB3sHHBB", 0xaa55, 1, 0x0ef1, 0, 0x8664, 0x40, 0x1c, b"PCIR",
                        vendor, 0x1f91, 0, 0x1c, 3, b"\0\2\3", 1, 0x12, kind, 0x80 * last)
    return image.ljust(511, b"\0") + bytes([-sum(image) & 0xff])


class Host:
    """A recorded host in a temporary directory."""

    def __init__(self, name):
        done = subprocess.run([UNPACK, name], check=True, capture_output=True, text=True)
        self.tree = Path(done.stdout.strip())
        (self.tree / "run").mkdir(exist_ok=True)

    def remove(self):
        shutil.rmtree(self.tree)

    def device(self, address):
        return (self.tree / "sys/bus/pci/devices" / address).resolve()

    def penstock(self, *arguments):
        return subprocess.run([PROGRAM, *arguments], capture_output=True, text=True, timeout=60,
                              env={**os.environ, "PENSTOCK_ROOT": str(self.tree)}, check=False)


BACKENDS = [
    {"serves": "disk0", "program": "/usr/bin/qemu-storage-daemon", "pid": 77, "file": "/images/demo.qcow2", "mac": None,
     "address": None, "end": None},
    {"serves": "net0", "program": "/usr/bin/passt", "pid": None, "file": None, "mac": "02:00:00:00:00:01",
     "address": None, "end": "exit code 1: No room"},
    {"serves": "display", "program": "/usr/libexec/penstock/penstock-display", "pid": 78, "file": None, "mac": None,
     "address": "127.0.0.1:5901", "end": None},
]


def serve_monitor(path, backends=None):
    """A machine, as far as 'penstock list' looks at it; without backends one of an older version."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()

    def serve():
        with listener, listener.accept()[0] as client:
            client.sendall(b'{"QMP": {"version": {}, "capabilities": []}}\r\n')
            client.recv(4096)
            client.sendall(b'{"return": {}}\r\n')
            client.recv(4096)
            client.sendall(b'{"event": "STOP"}{"return": {"running": false, "status": "paused"}}\r\n')
            client.recv(4096)
            answer = {"return": backends} if backends else {"error": {"class": "CommandNotFound", "desc": "no"}}
            client.sendall(json.dumps(answer).encode() + b"\r\n")
            client.recv(4096)

    threading.Thread(target=serve, daemon=True).start()


class Json(unittest.TestCase):
    maxDiff = None

    def host(self, name):
        host = Host(name)
        self.addCleanup(host.remove)
        return host

    def says(self, host, name, *arguments, status=0):
        """The object that the command prints, which is as the schema has it."""
        done = host.penstock(*arguments)
        self.assertEqual(done.returncode, status, done.stderr)
        said = json.loads(done.stdout)
        validator(name).validate(said)
        return said

    def is_silent(self, host, *arguments, status=1):
        """A command that has nothing to report says why on standard error alone."""
        done = host.penstock(*arguments)
        self.assertEqual((done.returncode, done.stdout), (status, ""))
        self.assertNotEqual(done.stderr, "")

    def test_schema(self):
        jsonschema.Draft202012Validator.check_schema(SCHEMA)
        for schema in objects(SCHEMA):
            self.assertEqual(set(schema["required"]), set(schema["properties"]))

    def test_ls(self):
        filled = set()
        for name in HOSTS:
            devices = self.says(self.host(name), "ls", "ls", "--json")["devices"]
            self.assertTrue(devices)
            for device in devices:
                filled |= {key for key, value in device.items() if value not in NULL_OR_EMPTY}
        self.assertEqual({"holder", "physical_function"},
                         keys("ls") - filled - {"version", "devices", "index", "kind", "size",
                                                "prefetchable", "vfs", "max"})

    def test_list(self):
        host = self.host("ryzen-5900x")
        self.assertEqual([], self.says(host, "list", "list", "--json")["machines"])
        (host.tree / "run/penstock/devices").mkdir(parents=True)
        (host.tree / "run/penstock/devices/0000:0b:00.0").write_text(
            "penstock device 1\naddress 0000:0b:00.0\ndriver amdgpu\noverride \n"
            f"holder {os.getpid()} 1\nname demo\npersist no\ncompanion no\nend\n")
        serve_monitor(host.tree / "run/penstock/demo.sock", BACKENDS)
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(str(host.tree / "run/penstock/dead.sock"))
        described = host.tree / "etc/penstock"
        described.mkdir(parents=True)
        for name in ("demo.yaml", "alpha.yaml", ".hidden.yaml", "x y.yaml", "other.conf"):
            (described / name).touch()
        demo = {"name": "demo", "pid": os.getpid(), "status": "paused", "file": str(described / "demo.yaml"),
                "devices": ["0000:0b:00.0"], "backends": BACKENDS}
        alpha = {"name": "alpha", "pid": None, "status": "off", "file": str(described / "alpha.yaml"), "devices": [],
                 "backends": []}
        environment = {"HOME": str(host.tree), "XDG_CONFIG_HOME": str(host.tree)}
        with unittest.mock.patch.dict(os.environ, environment):
            self.assertEqual([alpha, demo], self.says(host, "list", "list", "--json")["machines"])
            self.assertEqual(alpha, self.says(host, "status", "status", "--json", "alpha", status=3)["machine"])
            shown = host.penstock("status", "alpha")
            self.assertEqual(3, shown.returncode)
            self.assertIn(f"alpha: off\n  process   -\n  file      {alpha['file']}\n", shown.stdout)
            self.is_silent(host, "status", "--json", "dead", status=1)
            self.is_silent(host, "status", "--json", "../x", status=2)
            self.is_silent(host, "list", "--json", "--plain", status=2)
            self.is_silent(host, "status", "--json", status=2)
            (described / "dead.yaml").touch()
            self.assertEqual(3, host.penstock("status", "dead").returncode)
            serve_monitor(host.tree / "run/penstock/late.sock")
            late = self.says(host, "status", "status", "--json", "late")["machine"]
            self.assertEqual(("paused", []), (late["status"], late["backends"]))

    def test_backends_in_words(self):
        host = self.host("ryzen-5900x")
        (host.tree / "run/penstock").mkdir(parents=True)
        serve_monitor(host.tree / "run/penstock/demo.sock", BACKENDS)
        shown = host.penstock("status", "demo").stdout
        self.assertIn("  disk0     qemu-storage-daemon /images/demo.qcow2, process 77\n"
                      "  net0      passt 02:00:00:00:00:01 has ended: exit code 1: No room\n"
                      "  display   penstock-display 127.0.0.1:5901, process 78\n", shown)
        (host.tree / "run/penstock/demo.sock").unlink()
        serve_monitor(host.tree / "run/penstock/demo.sock", BACKENDS)
        lines = host.penstock("list").stdout.splitlines()
        self.assertEqual(["disk0", "77", "running", "qemu-storage-daemon", "/images/demo.qcow2"], lines[2].split())
        self.assertEqual("net0 - ended passt 02:00:00:00:00:01: exit code 1: No room", " ".join(lines[3].split()))

    def test_ls_of_a_group(self):
        host = self.host("shared-group")
        said = self.says(host, "ls", "ls", "--json", "02:00.0")["devices"]
        self.assertIn("0000:01:00.0", [device["address"] for device in said])
        self.assertEqual([], self.says(host, "ls", "ls", "--json", "zebra", status=1)["devices"])
        self.is_silent(host, "ls", "--json", "--plain", status=2)

    def test_doctor(self):
        checks, statuses = set(), set()
        for name in HOSTS:
            host = self.host(name)
            findings = json.loads(host.penstock("doctor", "--json").stdout)["findings"]
            all_devices = [device["address"] for device in
                           self.says(host, "ls", "ls", "--json")["devices"]]
            done = host.penstock("doctor", "--json", *all_devices)
            said = json.loads(done.stdout)
            validator("doctor").validate(said)
            for finding in findings + said["findings"]:
                checks.add(finding["check"])
                statuses.add(finding["status"])
            self.assertEqual(all_devices, [device["address"] for device in said["devices"]])
        properties = SCHEMA["$defs"]["doctor"]["properties"]["findings"]["items"]["properties"]
        self.assertEqual(checks, set(properties["check"]["enum"]))
        self.assertEqual(statuses, set(properties["status"]["enum"]))

    def test_doctor_of_what_is_not_there(self):
        self.is_silent(self.host("laptop-d3"), "doctor", "--json", "77:00.0")

    def test_boot_config(self):
        host = self.host("intel-iommu-off")
        plan = self.says(host, "boot-config", "boot-config", "--json", "01:00.0")
        self.assertEqual("0000:01:00.0", plan["devices"][0]["address"])
        self.assertEqual("intel_iommu=on", plan["kernel_words"])
        self.assertTrue(plan["files"] and plan["notes"] and plan["next"])
        self.says(host, "boot-config", "boot-config", "--json", "--write", "01:00.0")
        again = self.says(host, "boot-config", "boot-config", "--json", "01:00.0")
        self.assertEqual({"keep"}, {file["action"] for file in again["files"]})
        made = next(file for file in plan["files"] if file["action"] == "create")
        path = host.tree / made["path"].lstrip("/")
        path.write_text(path.read_text() + "# mine\n")
        undone = self.says(host, "boot-config", "boot-config", "--json", "--undo", status=1)
        self.assertEqual({"leave", "remove", "change"},
                         {file["action"] for file in undone["files"]})
        path.unlink()

    def test_boot_config_that_is_refused(self):
        self.is_silent(self.host("ryzen-5900x"), "boot-config", "--json", "01:00.0")
        self.is_silent(self.host("ryzen-5900x"), "boot-config", "--json", status=2)
        nothing = self.says(self.host("ryzen-5900x"), "boot-config", "boot-config", "--json", "--undo")
        self.assertEqual([], nothing["files"])

    def give_to_vfio(self, host, *addresses):
        for address in addresses:
            link = host.device(address) / "driver"
            link.unlink()
            driver = host.tree / "sys/bus/pci/drivers/vfio-pci"
            driver.mkdir(exist_ok=True)
            link.symlink_to(os.path.relpath(driver, link.parent))

    def reset(self, host, config, status):
        self.give_to_vfio(host, "0000:23:00.0")
        (host.device("0000:23:00.0") / "config").write_bytes(config)
        (host.device("0000:23:00.0") / "reset").touch()
        return self.says(host, "reset", "reset", "--json", "23:00.0", status=status)["devices"][0]

    def test_reset(self):
        said = self.reset(self.host("ryzen-5900x"), bytes.fromhex("4d1408a8") + bytes(60), 0)
        self.assertEqual(("flr", None, None), (said["used"], said["lost"], said["error"]))
        self.assertEqual(["flr", "bus"], said["methods"])
        self.assertIn("0000:23:00.0", said["bus_reset"])

    def test_reset_of_a_device_that_is_lost(self):
        said = self.reset(self.host("ryzen-5900x"), b"\xff" * 64, 1)
        self.assertEqual("0000:23:00.0", said["lost"])
        self.assertTrue(said["ways_out"] and said["error"])

    def test_reset_that_is_refused(self):
        host = self.host("ryzen-5900x")
        said = self.says(host, "reset", "reset", "--json", "01:00.0", "23:00.0", status=1)
        self.assertEqual([True, True], [bool(device["error"]) for device in said["devices"]])
        self.assertEqual([], self.says(host, "reset", "reset", "--json", "77:00.0",
                                       status=1)["devices"])
        self.is_silent(host, "reset", "--json", status=2)

    def test_vf_create(self):
        host = self.host("sriov-no-mmio")
        physical = host.device("0000:03:00.0")
        (physical / "resource").write_text(7 * "0x0 0x0 0x0\n" + 6 * "0xfd300000 0xfd303fff 0x140204\n")
        # A recorded kernel makes none, so they are there before.
        made = ("0000:03:10.0", "0000:03:10.2")
        for number, vf in enumerate(made):
            shutil.copytree(host.device("0000:03:00.1"), physical.parent / vf, symlinks=True)
            (physical.parent / vf / "physfn").symlink_to("../0000:03:00.0")
            (physical / f"virtfn{number}").symlink_to(f"../{vf}")
            (host.tree / "sys/bus/pci/devices" / vf).symlink_to(
                os.path.relpath(physical.parent / vf, host.tree / "sys/bus/pci/devices"))
        said = self.says(host, "vf-create", "vf", "create", "--json", "03:00.0", "2")
        self.assertEqual("0000:03:00.0", said["pf"])
        self.assertEqual([(number, vf, "ixgbe") for number, vf in enumerate(made)],
                         [(vf["number"], vf["address"], vf["driver"]) for vf in said["vfs"]])
        listed = self.says(host, "ls", "ls", "--json", made[0])["devices"]
        self.assertIn("0000:03:00.0", [device["physical_function"] for device in listed])

    def test_vf_create_that_is_refused(self):
        host = self.host("sriov-no-mmio")
        self.is_silent(host, "vf", "create", "--json", "03:00.0", "64")
        self.is_silent(host, "vf", "create", "--json", "00:1f.4", "1")
        self.is_silent(host, "vf", "destroy", "--json", "03:00.0", status=2)

    def rom(self, host, data, status):
        with tempfile.NamedTemporaryFile() as file:
            file.write(data)
            file.flush()
            said = self.says(host, "rom", "rom", "check", "--json", file.name, "01:00.0",
                             status=status)
            self.assertEqual((file.name, len(data)), (said["file"], said["size"]))
            return said

    def test_rom_check(self):
        host = self.host("laptop-d3")
        said = self.rom(host, rom_image(0, False) + rom_image(3, True), 0)
        self.assertEqual((True, None), (said["good"], said["broken"]))
        self.assertEqual([("legacy BIOS", None), ("UEFI", "8664")],
                         [(image["type"], image["machine"]) for image in said["images"]])
        said = self.rom(host, rom_image(0x77, True, vendor=0x1002), 1)
        self.assertEqual((False, None, 0x77), (said["good"], said["images"][0]["type"],
                                               said["images"][0]["type_code"]))
        self.assertTrue(said["images"][0]["problems"])
        self.assertTrue(self.rom(host, rom_image(0, False), 1)["broken"])
        self.assertEqual([], self.rom(host, b"nothing of the kind", 1)["images"])

    def test_rom_dump(self):
        host = self.host("intel-rmrr")
        file = host.tree / "card.rom"
        # The 1 that makes the kernel show the ROM lands in it here.
        (host.device("0000:07:00.0") / "rom").write_bytes(rom_image(3, True))
        said = self.says(host, "rom", "rom", "dump", "--json", "07:00.0", str(file), status=1)
        self.assertEqual((str(file), 512, False), (said["file"], said["size"], said["good"]))
        self.assertTrue(said["broken"])

    def test_rom_that_cannot_be_read(self):
        host = self.host("laptop-d3")
        self.is_silent(host, "rom", "check", "--json", str(host.tree / "none.rom"))
        self.is_silent(host, "rom", "dump", "--json", "01:00.0", str(host.tree / "none.rom"))

    def test_disk(self):
        host = self.host("laptop-d3")
        base, clone = str(host.tree / "base.qcow2"), str(host.tree / "clone.qcow2")
        for words in (("create", base, "1M"), ("clone", base, clone), ("snapshot", clone, "first")):
            self.assertEqual(0, host.penstock("disk", *words).returncode)
        said = self.says(host, "disk-info", "disk", "info", "--json", clone)
        self.assertEqual(([base], ["first"]), ([base["file"] for base in said["based_on"]],
                                               [one["name"] for one in said["snapshots"]]))
        said = self.says(host, "disk-list", "disk", "list", "--json", clone)
        self.assertEqual("first", said["snapshots"][0]["name"])
        self.is_silent(host, "disk", "info", "--json", str(host.tree / "none.qcow2"))

    def test_page_names_all_keys(self):
        """And no others: those of the tables' first columns, and what is said in front of tables."""
        page = (TOP / "docs/json.md").read_text()
        sections = {}
        for section in page.split("\n## ")[1:]:
            title, text = section.split("\n", 1)
            name = re.match(r"`penstock ([a-z-]+(?: create| info| list)?)", title).group(1)
            sections[name.replace(" ", "-")] = text
        self.assertEqual(set(sections),
                         set(SCHEMA["$defs"]) & {ref["$ref"].split("/")[-1] for ref in SCHEMA["oneOf"]})
        for name, text in sections.items():
            words = set(re.findall(r"`([a-z_]+)`", text))
            first = {word for line in re.findall(r"^\| (`[^|]*) \|", text, re.M)
                     for word in re.findall(r"`([a-z_-]+)`", line)}
            checks = set(SCHEMA["$defs"]["doctor"]["properties"]["findings"]["items"]["properties"]
                         ["check"]["enum"]) if name == "doctor" else set()
            with self.subTest(name):
                self.assertEqual(set(), keys(name) - words - {"version"}, "not on the page")
                self.assertEqual(set(), first - all_keys(name) - checks, "not in the schema")
                self.assertEqual(set(), checks - first, "checks that are not on the page")


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
