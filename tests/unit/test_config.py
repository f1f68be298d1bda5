#!/usr/bin/env python3
"""Files that describe a VM, as a user meets them: test_config.py PENSTOCK UNPACK"""

import contextlib
import os
import pty
import re
import shutil
import subprocess
import sys
import tempfile
import termios
import unittest
from pathlib import Path

PENSTOCK, UNPACK = sys.argv.pop(1), sys.argv.pop(1)
EXAMPLES = sorted((Path(__file__).resolve().parents[2] / "docs/examples").glob("*.yaml"))
# Each option of run with a value that it takes; "" where it takes none. One that is new is added here.
VALUES = {
    "kernel": "/boot/vmlinuz", "initrd": "/boot/a file", "cmdline": "console=ttyS0 a='b: c' #d", "firmware": "uefi",
    "nvram": "vm.fd", "tpm": "", "memory": "1G", "cpus": "4,cores=2,threads=2,pin=0-3", "dedicated": "",
    "cpu": "host,-avx512f", "hyperv": "", "hyperv-vendor": "twelve chars", "hide-hypervisor": "", "rtc": "local",
    "smbios": ["type=1,serial=a,,b", "type=11,value=x"], "device": ["0000:01:00.0,rom=off", "0000:02:00.0"],
    "disk": ["/a.qcow2", "/b,format=raw,readonly"],
    "cloud-init": "/user-data,meta-data=/meta-data",
    "net": ["tap=vm0", "tap=vm1,mac=52:54:00:00:00:01", "user,hostfwd=tcp:2222-:22",
            "bridge=br0"],
    "share": ["/srv/src", "/b,tag=c,readonly"], "vsock": "3", "display": "vnc", "iommu": "type1", "ports": "0",
    "vdpa": ["/dev/vhost-vdpa-0", "/dev/vhost-vdpa-1"],
    "serial": "file:/tmp/log", "name": "vm1", "monitor": "unix:/tmp/monitor", "hugepages": "", "prealloc": "",
    "on-device-error": "stop", "on-reboot": "pause", "on-crash": "stop", "force": "",
}


def penstock(*words, **more):
    done = subprocess.run([PENSTOCK, *words], capture_output=True, text=True, timeout=30, **more)
    return done.returncode, done.stdout, done.stderr


def options():
    """What run's help tells of: names, each with how it is written and what is said of it."""
    text = penstock("run", "--help")[1]
    return {found[1]: (found[2], found[0]) for found in
            re.finditer(r"^  --([a-z-]+)((?: (?! )|[^ \n])*).*\n(?: {6,}.*\n)*", text, re.M) if found[1] != "help"}


def at_a_terminal(*words, typed, **more):
    """The exit code and what is on the screen, without what is typed."""
    master, slave = pty.openpty()
    settings = termios.tcgetattr(slave)
    settings[3] &= ~termios.ECHO
    termios.tcsetattr(slave, termios.TCSANOW, settings)
    with subprocess.Popen([PENSTOCK, *words], stdin=slave, stdout=slave, stderr=slave, **more) as process:
        os.close(slave)
        os.write(master, typed.encode())
        screen = b""
        with contextlib.suppress(OSError):      # EIO: nobody has the other end any more
            while chunk := os.read(master, 4096):
                screen += chunk
        os.close(master)
        return process.wait(30), screen.decode().replace("\r", "")


def as_words(values):
    words = []
    for name, value in values.items():
        for one in value if isinstance(value, list) else [value]:
            words += [f"--{name}", one] if one else [f"--{name}"]
    return words


class Config(unittest.TestCase):
    def setUp(self):
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.path = Path(directory.name) / "vm.yaml"

    def fails(self, command, code, text, words, *more):
        """With one line that begins with the place and has the words."""
        self.path.write_text(text)
        status, out, err = penstock(*command, self.path, *more)
        lines = err.splitlines()
        self.assertEqual(status, code, err)
        self.assertIn(words, lines[0].replace(f"{self.path}:", "FILE:"))
        self.assertLessEqual(len(lines), 2, err)
        self.assertEqual(out, "")
        return err

    def test_each_option_has_a_value_here(self):
        self.assertEqual(sorted(options()), sorted(VALUES))

    def test_an_option_with_a_list_here_may_be_repeated(self):
        """As its help says, and the other way round."""
        defaults = penstock("config", "--defaults")[1]
        for name, (form, text) in options().items():
            words = as_words({"kernel": "/boot/vmlinuz"}) if name != "kernel" else []
            status, out, err = penstock("config", "--from-args", *words, *as_words({name: VALUES[name]})) \
                if name not in ("initrd", "cmdline", "dedicated", "hide-hypervisor", "nvram") else (0, "", "")
            self.assertEqual((status, err), (0, ""), name)
            self.assertEqual("may be repeated" in text, isinstance(VALUES[name], list), name)
            if isinstance(VALUES[name], list):
                self.assertIn(f"{name}:\n- ", out.replace("  - ", "- "), name)
            self.assertRegex(defaults, rf"(?m)^(# )?{name}: ")
            self.assertEqual(bool(form.strip()), VALUES[name] != "", name)

    def test_from_args_and_back_is_the_same(self):
        status, text, err = penstock("config", "--from-args", *as_words(VALUES))
        self.assertEqual((status, err), (0, ""))
        self.path.write_text(text)
        self.assertEqual(penstock("config", "--from-args", self.path), (0, text, ""))
        for name, value in VALUES.items():
            for one in value if isinstance(value, list) else [value or "true"]:
                self.assertRegex(text, rf"(?m)^({name}: |- |  - )'?{re.escape(one).replace(chr(39), chr(39) * 2)}'?$")

    def test_the_defaults_are_those_of_the_help(self):
        status, text, err = penstock("config", "--defaults")
        told = {name: found[1] for name, (_, said) in options().items()
                if (found := re.search(r"\(default\s+([^\s;,)]+)[^)]*\)|utc \(default\)", said)) and found[1]}
        for name in ("memory", "cpus", "ports", "serial"):
            self.assertIn(f"\n{name}: {told[name]}\n", text)
        self.assertEqual(penstock("run", "--kernel", "/dev/null", "--memory", "512M")[0], 1)
        self.path.write_text(text)
        code, out, err = penstock("config", "--check", self.path, "--kernel", PENSTOCK)
        self.assertEqual((code, out, err), (0, "", ""))

    def test_what_is_wrong_is_told_the_same_way_by_both(self):
        for text, words, hint in (
                ("kernel: /k\nmemory: 1x\n", "FILE:2:9: memory 1x is no size for a guest", "run --help"),
                ("kernel: /k\nmemroy: 1G\n", "FILE:2:1: there is no key 'memroy'", "did you mean memory?"),
                ("kernel: /k\ntpm: maybe\n", "FILE:2:6: tpm is true or false", "write 'tpm: true'"),
                ("kernel: /k\nmemory: []\n", "FILE:2:9: memory takes one value", "write 'memory: SIZE[,hugepages=2M|1G]'"),
                ("kernel: /k\ndevice:\n- 0000:01:00.0\n- 01:00.8\n", "FILE:4:3: device 01:00.8 is no PCI address", "ls"),
                ("kernel: /k\ndevice: [ 0000:01:00.0, '01:00.0' ]\n", "FILE:2:25: device 01:00.0 is given twice", ""),
                ("kernel: /k\ndedicated: true\n", "FILE:2:12: dedicated needs cpus N", ""),
                ("initrd: /i\nfirmware: uefi\n", "FILE:1:9: initrd is of no use without kernel", ""),
                ("kernel: /k\nshare: [ /a, /b/a ]\n", "FILE:2:14: share /b/a: /a has the tag 'a' already", ""),
                ("memory: 1G\n", "--kernel FILE is missing", ""),
                ("kernel: /k\nsmbios: type=1,serail=x\n", "FILE:2:9: smbios type=1: 'serail'", "mean serial")):
            err = self.fails(["run"], 2, text, words)
            self.assertIn(hint, err)
            self.assertEqual(self.fails(["config", "--check"], 1, text, words), err)

    def test_a_file_that_is_not_there_is_told_with_its_place(self):
        words = "FILE:1:9: /nonexistent/k: cannot open"
        self.fails(["run"], 1, "kernel: /nonexistent/k\n", words)
        self.fails(["config", "--check"], 1, "kernel: /nonexistent/k\n", words)
        text = f"kernel: {PENSTOCK}\ndevice: 0000:01:00.0,rom=/nonexistent/rom\n"
        self.fails(["config", "--check"], 1, text, "FILE:2:9: /nonexistent/rom: cannot open")
        text = f"kernel: {PENSTOCK}\ninitrd: /nonexistent/i\n"
        self.fails(["run"], 1, text, "FILE:2:9: /nonexistent/i: cannot open")
        self.fails(["config", "--check"], 1, text, "FILE:2:9: /nonexistent/i: cannot open")
        text = f"kernel: {PENSTOCK}\nshare: /nonexistent/d,tag=a\n"
        self.fails(["config", "--check"], 1, text, "FILE:2:8: /nonexistent/d: this directory cannot be shared")
        text = f"kernel: {PENSTOCK}\nshare: {PENSTOCK},tag=a\n"
        self.fails(["config", "--check"], 1, text, "this is no directory, and cannot be shared")
        text = f"kernel: {PENSTOCK}\nvdpa: /dev/null\n"
        self.fails(["config", "--check"], 1, text, "FILE:2:7: /dev/null: this is no node of vhost-vdpa's")
        self.assertEqual(penstock("config", "--check", "/nonexistent/vm.yaml")[0], 1)
        self.assertIn("a file that describes a VM", penstock("run", "/nonexistent/vm.yaml")[2])

    def test_the_command_line_wins(self):
        text = "kernel: /k\nmemory: junk\nserial: file:/x\ndevice: 0000:01:00.0\nhyperv-vendor: abc\n"
        self.path.write_text(text)
        status, out, err = penstock("config", "--from-args", self.path, "--memory", "1G", "--serial", "pty",
                                    "--device", "0000:02:00.0", "--hyperv-vendor", "def")
        self.assertEqual((status, err), (0, ""))
        self.assertEqual(out, "kernel: /k\nmemory: 1G\nhyperv-vendor: def\ndevice:\n- 0000:01:00.0\n- 0000:02:00.0\n"
                              "serial: pty\n")
        self.path.write_text("kernel: /k\nnvram: /x\n")
        self.assertIn("FILE:2:8: nvram is of no use without firmware",
                      penstock("run", self.path)[2].replace(f"{self.path}", "FILE"))
        self.assertIn("penstock: --nvram is of no use", penstock("run", self.path, "--nvram", "/y")[2])

    def test_one_file_and_no_more(self):
        self.path.write_text("kernel: /k\n")
        status, _, err = penstock("run", self.path, "other.yaml")
        self.assertEqual(status, 2)
        self.assertIn("other.yaml", err)

    def test_a_file_that_others_may_write_is_not_roots(self):
        self.path.write_text("kernel: /nonexistent/k\n")
        self.path.chmod(0o620)
        wanted = "others may write it" if os.geteuid() == 0 else "/nonexistent/k"
        self.assertIn(wanted, penstock("run", self.path)[2])

    def test_wrong_usage_is_told(self):
        for words in ((), ("--chek", "x"), ("x",), ("--defaults", "x"), ("--check",)):
            status, out, err = penstock("config", *words)
            self.assertEqual((status, out), (2, "") if words != ("--check",) else (1, ""), words)
        self.assertEqual(penstock("config", "--check", "--nonsense")[0], 2)
        self.assertEqual(penstock("config", "--check", "--kernel", PENSTOCK)[0], 2)

    def starts(self, text, *more, name="vm1"):
        root = self.path.parent
        for directory in ("sys", "proc", "run", "etc/penstock", "home/penstock"):
            (root / directory).mkdir(parents=True, exist_ok=True)
        if text is not None:
            (root / "etc/penstock" / f"{name}.yaml").write_text(text)
        return penstock("start", *more, name, env={"PENSTOCK_ROOT": str(root), "XDG_CONFIG_HOME": str(root / "home")})

    def test_a_start_that_fails_says_so(self):
        for more in ((), ("--foreground",)):
            status, out, err = self.starts("kernel: ../none\n", *more)
            self.assertEqual((status, out), (1, ""), err)
            self.assertIn("vm1.yaml:1:9: ../none: cannot open", err)
            self.assertEqual(err.count("penstock: "), 1)
            status, out, err = self.starts("kernal: x\n", *more)
            self.assertEqual((status, out), (2, ""), err)
            self.assertIn("vm1.yaml:1:1: there is no key 'kernal'", err)
        for text, words in (("kernel: /k\nserial: stdio\n", "vm1.yaml:2:9: serial stdio has no terminal"),
                            (f"kernel: {PENSTOCK}\ninitrd: /none\n", "vm1.yaml:2:9: /none: cannot open")):
            self.assertIn(words, self.starts(text)[2])
        # A kernel that is beside the file, and none.
        (self.path.parent / "etc/penstock/beside").touch()
        self.assertIn("beside: ", self.starts("kernel: beside\n")[2])

    def test_a_name_leads_to_a_file(self):
        status, _, err = self.starts(None, name="vm2")
        self.assertEqual(status, 2)
        self.assertIn("vm2: no file describes a machine of this name", err)
        self.assertEqual(self.starts(None, name="../x")[0], 2)
        own = self.path.parent / "home/penstock/vm3.yaml"
        own.write_text("own: 1\n")
        err = self.starts("roots: 1\n", name="vm3")[2]
        self.assertIn("no key 'roots'" if os.geteuid() == 0 else "no key 'own'", err)

    def test_examples_are_right(self):
        self.assertGreaterEqual(len(EXAMPLES), 4)
        for example in EXAMPLES:
            files = ["--kernel", PENSTOCK, "--initrd", PENSTOCK] if "\nkernel:" in example.read_text() else []
            files += ["--cloud-init", PENSTOCK] if "\ncloud-init:" in example.read_text() else []
            self.assertEqual(penstock("config", "--check", example, *files), (0, "", ""), example)

    def host(self, name):
        tree = subprocess.run([UNPACK, name], check=True, capture_output=True, text=True).stdout.strip()
        self.addCleanup(shutil.rmtree, tree)
        own = Path(tree, "home")
        place = Path(tree, "etc/penstock") if os.geteuid() == 0 else own / "penstock"
        return place, {**os.environ, "PENSTOCK_ROOT": tree, "XDG_CONFIG_HOME": str(own), "XDG_DATA_HOME": str(own)}

    def test_new_asks(self):
        place, environment = self.host("ryzen-5900x")
        status, screen = at_a_terminal("new", "demo", typed="1, 2f:00.0\n\n2\nuefi\n3G\nuser\nvnc\n\n", env=environment)
        self.assertEqual(status, 0, screen)
        self.assertIn("0000:01:00.0  not now: its disk nvme0n1p1 is mounted at /boot", screen)
        self.assertRegex(screen, r"(?m)^ +1  0000:23:00.0 .*\n.*\n +the host loses it from nvme$")
        self.assertIn("Start it by: penstock start demo", screen)
        self.assertRegex((place / "demo.yaml").read_text(), r"^firmware: uefi\nnvram: /.*/penstock/demo.fd\n"
                         r"memory: 2G\ncpus: 2\ndevice:\n- 0000:23:00.0\n- 2f:00.0\n"
                         r"disk:\n- /.*/penstock/demo.qcow2\nnet:\n- user\ndisplay: vnc\n$")
        disk, = Path(environment["PENSTOCK_ROOT"]).rglob("demo.qcow2")
        self.assertIn("3 GiB", penstock("disk", "info", disk)[1])
        self.assertEqual(penstock("config", "--check", place / "demo.yaml", env=environment), (0, "", ""))
        words = dict(typed="\n\n1\nboot/k\n\n\n2own,format=raw\n\n\n\n", env=environment, cwd=place)
        (place / "2own").write_text("a disk")
        status, screen = at_a_terminal("new", "linux", **words)
        self.assertEqual(status, 0, screen)
        self.assertEqual((place / "linux.yaml").read_text(), f"kernel: {place}/boot/k\ncmdline: console=ttyS0\n"
                         f"memory: 2G\ncpus: 1\ndisk:\n- {place}/2own,format=raw\n")

    def test_new_offers_to_start(self):
        _, environment = self.host("intel-iommu-off")
        Path(environment["PENSTOCK_ROOT"], "run").mkdir(exist_ok=True)
        answers = "\n\n1\n/none/k\n\n\n\n\n\n"
        status, screen = at_a_terminal("new", "vm1", typed=answers + "\n", env=environment)
        self.assertEqual(status, 0, screen)
        self.assertIn("Start it now, yes or no [no]: ", screen)
        status, screen = at_a_terminal("new", "vm2", typed=answers + "yes\n", env=environment)
        self.assertEqual(status, 1, screen)
        self.assertIn("/none/k: cannot open", screen)
        # Not what cannot start yet.
        typed = answers.replace("\n", "01:00.0\n", 1) + "yes\n"
        status, screen = at_a_terminal("new", "vm3", typed=typed, env=environment)
        self.assertEqual(status, 0, screen)
        self.assertIn("Before it can start:", screen)
        self.assertNotIn("Start it now", screen)

    def test_new_takes_options(self):
        place, environment = self.host("intel-iommu-off")
        words = ["--kernel", "/k", "--device", "0000:01:00.0"]
        status, out, err = penstock("new", "vm1", *words, env=environment)
        self.assertEqual((status, err), (0, ""))
        self.assertIn("Before it can start:\n", out)
        self.assertIn("intel_iommu=on", out)
        text = (place / "vm1.yaml").read_text()
        self.assertEqual(text, "kernel: /k\ndevice:\n- 0000:01:00.0\n")
        status, out, err = penstock("new", "vm1", *words, env=environment)
        self.assertEqual((status, out), (1, ""))
        self.assertIn("describes a machine of this name already", err)
        self.assertEqual((place / "vm1.yaml").read_text(), text)

    def test_new_completes_paths(self):
        """They begin at the file's directory there."""
        place, environment = self.host("ryzen-5900x")
        words = ["--kernel", "k", "--initrd", "./i", "--disk", "a,format=raw", "--disk", "/b", "--share", "c,tag=x", "--vdpa", "n",
                 "--cloud-init", "u,meta-data=m", "--device", "1:0.0,rom=r", "--device", "2:0.0,rom=off",
                 "--serial", "file:s", "--display", "vnc=unix:v", "--monitor", "unix:q"]
        place.mkdir(exist_ok=True)
        status, _, err = penstock("new", "vm1", *words, env=environment, cwd=place)
        self.assertEqual(status, 0, err)
        lines = (place / "vm1.yaml").read_text().splitlines()
        for line in ("kernel: #k", "initrd: #./i", "- #a,format=raw", "- /b", "- #c,tag=x", "- #n", "- 2:0.0,rom=off",
                     "cloud-init: #u,meta-data=#m", "- 1:0.0,rom=#r", "serial: file:#s", "display: vnc=unix:#v",
                     "monitor: unix:#q"):
            self.assertIn(line.replace("#", f"{place}/"), lines)
        status, _, err = penstock("new", "vm2", "--firmware", "bios", "--device", "1:0.0", env=environment, cwd=place)
        self.assertEqual(status, 0, err)
        self.assertIn("firmware: bios", (place / "vm2.yaml").read_text())
        words[:2] = ["--firmware", "my.fd"]
        del words[2:4]
        status, _, err = penstock("new", "vm3", *words, env=environment, cwd=place)
        self.assertEqual(status, 0, err)
        self.assertIn(f"firmware: {place}/my.fd", (place / "vm3.yaml").read_text())

    def test_new_writes_nothing_that_is_wrong(self):
        place, environment = self.host("ryzen-5900x")
        for words, code, wanted in ((("vm1", "--memory", "x", "--kernel", "/k"), 2, "--memory x is no size"),
                                    (("vm1",), 2, "--kernel FILE is missing"), (("../vm1", "--tpm"), 2, "../vm1"),
                                    (("--tpm",), 2, "begin with the name"), ((), 2, "begin with the name"),
                                    (("vm1", "--kernel", "a\nb"), 2, "control character")):
            status, out, err = penstock("new", *words, env=environment, stdin=subprocess.DEVNULL)
            self.assertEqual((status, out), (code, ""), err)
            self.assertIn(wanted, err)
        for typed, code, wanted in (("\x04", 1, "nothing is written"), ("99\n\n\nbios\n\n\n\n", 1, "99"),
                                    ("\n1x\n\nbios\n3G\n\n\n", 2, "memory 1x"),
                                    ("\n\n\x04", 1, "nothing is written"),
                                    ("\n\n\nbios\n0x\n", 2, "0x is no size of a disk"),
                                    ("\n\n\nbios\nnone\n", 1, "none: this disk is not there"),
                                    ("\n\n\nbios\n3G\nx\n\n", 2, "--net x")):
            status, screen = at_a_terminal("new", "vm1", typed=typed, env=environment)
            self.assertEqual(status, code, screen)
            self.assertIn(wanted, screen)
        self.assertFalse((place / "vm1.yaml").exists())
        self.assertFalse((place.parent.parent / "var/lib/penstock").exists())

    def test_a_description_that_cannot_be_written_out_is_an_error(self):
        with open("/dev/full", "w") as full:
            done = subprocess.run([PENSTOCK, "config", "--from-args", "--kernel", "/k"], stdout=full,
                                  stderr=subprocess.PIPE, timeout=30)
        self.assertEqual(done.returncode, 1)


if __name__ == "__main__":
    unittest.main()
