"""penstock disk, with the real qemu-img, good and broken images, and a machine that has some of them open.

test_disk.py PENSTOCK
"""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import unittest
from pathlib import Path

PROGRAM = os.path.abspath(sys.argv[1])
MIB = 1 << 20


def qemu_img(*words):
    return subprocess.run(["qemu-img", *words], check=True, capture_output=True, text=True).stdout


def write(path, data, offset=0):
    with open(path, "r+b") as file:
        file.seek(offset)
        file.write(data)


class FakeMonitor:
    """Of a machine whose first disk this process serves, and its second nobody."""

    def __init__(self, path, error=None):
        self.heard, self._error = [], error
        path.unlink(missing_ok=True)
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self):
        self._thread.start()
        return self.heard

    def __exit__(self, *_):
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()

    def _serve(self):
        try:
            while True:
                self._talk(self._listener.accept()[0])
        except OSError:
            pass

    def _talk(self, client):
        backends = [{"serves": "disk1", "pid": None}, {"serves": "disk0", "pid": os.getpid()}]
        client.sendall(b'{"QMP": {}}\r\n')
        while said := client.recv(65536):
            command = json.loads(said)
            answer = {"return": backends if command["execute"].endswith("query-backends") else {}}
            if "arguments" in command:
                self.heard.append((command["execute"], command["arguments"]))
                answer = {"error": {"class": "GenericError", "desc": self._error}} if self._error else answer
            client.sendall(json.dumps(answer).encode())
        client.close()


class Disk(unittest.TestCase):
    def setUp(self):
        self.top = Path(tempfile.mkdtemp(prefix="penstock-disk-"))
        self.addCleanup(shutil.rmtree, self.top)
        self.run_directory = self.top / "root/run/penstock"
        self.run_directory.mkdir(parents=True, mode=0o755)
        self.files = self.top / "files"
        self.files.mkdir()
        self.top.chmod(0o755)

    def disk(self, *words, path=None):
        environment = {**os.environ, "PENSTOCK_ROOT": str(self.top / "root")}
        if path is not None:
            environment["PATH"] = path
        return subprocess.run([PROGRAM, "disk", *map(str, words)], capture_output=True, text=True, timeout=60,
                              cwd=self.files, env=environment, check=False)

    def be_a_machine(self, name):
        """As far as the journal tells."""
        start = Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19]
        names = self.run_directory / "names"
        names.mkdir(mode=0o755, exist_ok=True)
        (names / name).write_text(f"penstock name 1\nholder {os.getpid()} {start}\nname {name}\nend\n")
        (self.run_directory / f"{name}.sock").touch()

    def good(self, *words):
        done = self.disk(*words)
        self.assertEqual((done.returncode, done.stderr), (0, ""), words)
        return done.stdout

    def refused(self, *words, says, status=1, never=(), **options):
        before = sorted((file.name, file.stat().st_size) for file in self.files.iterdir())
        done = self.disk(*words, **options)
        self.assertEqual(done.returncode, status, done.stderr)
        for text in says:
            self.assertIn(text, done.stderr)
        for text in (*never, "--disk"):
            self.assertNotIn(text, done.stderr)
        self.assertEqual(done.stdout, "")
        after = sorted((file.name, file.stat().st_size) for file in self.files.iterdir())
        self.assertEqual(before, after, "something is left")

    def info(self, name):
        return json.loads(self.good("info", "--json", name))

    def contents(self, name, file_format):
        copy = self.top / "contents"
        qemu_img("convert", "-f", file_format, "-O", "raw", str(self.files / name), str(copy))
        return copy.read_bytes()

    def test_name_and_format_go_together(self):
        self.good("create", "a.qcow2", "1G")
        self.good("create", "b.img", "10M")
        self.good("create", "c.img,format=qcow2", "10M")
        formats = [json.loads(qemu_img("info", "--output=json", str(self.files / name)))["format"]
                   for name in ("a.qcow2", "b.img", "c.img")]
        self.assertEqual(formats, ["qcow2", "raw", "qcow2"])
        self.assertEqual(self.info("a.qcow2")["size"], 1 << 30)
        self.assertEqual((self.files / "b.img").stat().st_mode & 0o777, 0o600)
        self.assertIn("1 GiB", self.good("info", "a.qcow2"))
        # What a guest may have written into a raw disk is not followed.
        self.refused("info", "c.img", says=["c.img", "begins as a qcow2 image", ",format=raw"])
        self.refused("convert", "c.img", "d.img", says=["begins as a qcow2 image"])
        self.refused("clone", "c.img", "d.qcow2", says=["begins as a qcow2 image"])
        self.assertEqual(self.info("c.img,format=qcow2")["format"], "qcow2")
        self.assertEqual(self.info("c.img,format=raw")["format"], "raw")

    def test_nothing_is_overwritten(self):
        self.good("create", "a.qcow2", "1M")
        (self.files / "b.qcow2").write_text("precious")
        for words in (("create", "b.qcow2", "1M"), ("clone", "a.qcow2", "b.qcow2"), ("convert", "a.qcow2", "b.qcow2"),
                      ("convert", "a.qcow2", "a.qcow2")):
            self.refused(*words, says=["there is such a file already", "choose another name"])
        os.symlink("nowhere", self.top / "link")
        self.refused("create", "../link", "1M", says=["there is such a file already"])
        self.assertEqual((self.files / "b.qcow2").read_text(), "precious")

    def test_wrong_words(self):
        for words, text in ((("create", "a.qcow2"), "a file and a size"), (("info",), "wants a file"),
                            (("copy", "a"), "give one of"), ((), "give one of"),
                            (("create", "--json", "a", "1M"), "--json goes with"),
                            (("create", "--shrink", "a", "1M"), "--shrink goes with"),
                            (("revert", "--delete", "a", "s"), "--delete goes with")):
            self.refused(*words, says=[text], status=2)
        for size in ("0", "x", "9000000T", "1M1", ""):
            self.refused("create", "a.qcow2", size, says=["no size of a disk"])
        self.refused("create", "a.qcow2,readonly", "1M", says=["format=raw"])
        self.refused("create", "a.vmdk,format=vmdk", "1M", says=["format=raw"])
        self.refused("create", "", "1M", says=["cannot be empty"])
        self.refused("create", "missing/a.qcow2", "1M", says=["missing/a.qcow2", "No such file"])
        self.refused("create", "a.qcow2", "1M", says=["qemu-img", "the package qemu-utils"], path="/nonexistent")

    def test_broken_images(self):
        self.refused("info", "a.qcow2", says=["a.qcow2", "No such file", "penstock disk create"])
        self.good("create", "a.qcow2", "64M")
        whole = (self.files / "a.qcow2").read_bytes()
        (self.files / "short.qcow2").write_bytes(whole[:60])
        (self.files / "corrupt.qcow2").write_bytes(whole)
        write(self.files / "corrupt.qcow2", b"\2", 79)
        (self.files / "huge.qcow2").write_bytes(whole)
        write(self.files / "huge.qcow2", b"\xff" * 4, 36)
        (self.files / "empty").touch()
        for name, text in (("short.qcow2", "no good image"), ("corrupt.qcow2", "marked as corrupt"),
                           ("huge.qcow2", "no good image"), ("empty", "is empty")):
            for words in (("info", name), ("clone", name, "n.qcow2"), ("convert", name, "n.img"),
                          ("resize", name, "1G"), ("snapshot", name, "s"), ("revert", name, "s"), ("list", name)):
                self.refused(*words, says=[name, text])

    def test_a_clone_is_based_on_what_stays(self):
        self.good("create", "base.img", "4M")
        write(self.files / "base.img", b"of the base", MIB)
        said = self.good("clone", "base.img", "a.qcow2")
        self.assertIn("write-protected now", said)
        self.assertEqual((self.files / "base.img").stat().st_mode & 0o222, 0)
        self.good("clone", "a.qcow2", "b.qcow2")
        self.assertNotIn("write-protected now", self.good("clone", "base.img", "c.qcow2"))
        self.assertEqual([base["file"] for base in self.info("b.qcow2")["based_on"]], ["a.qcow2", "base.img"])
        self.assertEqual(self.contents("b.qcow2", "qcow2"), (self.files / "base.img").read_bytes())
        # Root could write to it.
        for words in (("resize", "base.img", "8M"), ("snapshot", "a.qcow2", "s")):
            self.refused(*words, says=["write-protected", "penstock disk clone"], never=[",readonly"])
        # Beside each other they can be moved.
        self.files.rename(self.top / "moved")
        self.files = self.top / "moved"
        self.assertEqual(len(self.info("b.qcow2")["based_on"]), 2)
        self.good("create", "d:e.img", "1M")
        (self.files / "d:e.img").chmod(0o644)
        self.good("clone", "d:e.img", "f.qcow2")
        self.assertEqual(self.info("f.qcow2")["based_on"][0]["file"], str(self.files / "d:e.img"))
        self.refused("clone", "base.img", "g.img", says=["name should end in .qcow2"])
        self.refused("clone", "base.img", "g.img,format=raw", says=["never raw"])
        # As 'penstock run' would refuse it.
        (self.files / "far").mkdir()
        if os.geteuid() == 0:
            self.refused("clone", "base.img", "far/h.qcow2", says=["not everybody may read"])
            self.assertEqual(os.listdir(self.files / "far"), [])
        (self.files / "base.img").unlink()
        self.refused("info", "b.qcow2", says=["a.qcow2", "based on base.img", "qemu-img rebase"])

    def test_a_copy_is_of_all(self):
        self.good("create", "base.img", "4M")
        write(self.files / "base.img", b"of the base", MIB)
        self.good("clone", "base.img", "a.qcow2")
        self.good("convert", "a.qcow2", "b.img")
        self.assertEqual((self.files / "b.img").read_bytes(), (self.files / "base.img").read_bytes())
        self.good("convert", "b.img", "c.qcow2")
        self.assertEqual(self.contents("c.qcow2", "qcow2"), (self.files / "b.img").read_bytes())
        self.assertEqual(self.info("c.qcow2")["based_on"], [])

    def test_sizes(self):
        self.good("create", "a.img", "4M")
        write(self.files / "a.img", b"\xff" * 4 * MIB)
        self.good("clone", "a.img", "b.qcow2")
        self.good("resize", "b.qcow2", "+4M")
        self.assertEqual(self.info("b.qcow2")["size"], 8 * MIB)
        self.refused("resize", "b.qcow2", "2M", says=["it has 8 MiB", "beyond 2 MiB", "--shrink"])
        self.good("resize", "--shrink", "b.qcow2", "2M")
        # What is below it there does not come back.
        self.good("resize", "b.qcow2", "4M")
        self.assertEqual(self.contents("b.qcow2", "qcow2"), b"\xff" * 2 * MIB + bytes(2 * MIB))
        self.good("create", "c.img", "1000")
        self.good("resize", "c.img", "3000")
        self.assertEqual((self.files / "c.img").stat().st_size, 3072)

    def test_snapshots(self):
        self.good("create", "a.img", "1M")
        self.refused("snapshot", "a.img", "one", says=["this is raw", "penstock disk convert"])
        self.assertEqual(json.loads(self.good("list", "--json", "a.img"))["snapshots"], [])
        write(self.files / "a.img", b"first")
        self.good("convert", "a.img", "b.qcow2")
        for name in ("2", "one"):
            self.good("snapshot", "b.qcow2", name)
        qemu = json.dumps({"driver": "qcow2", "file": {"driver": "file", "filename": str(self.files / "b.qcow2")}})
        subprocess.run(["qemu-io", "-c", "write -P 7 0 512", f"json:{qemu}"], check=True, stdout=subprocess.DEVNULL)
        self.good("snapshot", "b.qcow2", "1")
        self.assertEqual([one["name"] for one in self.info("b.qcow2")["snapshots"]], ["2", "one", "1"])
        self.assertIn("one", self.good("list", "b.qcow2"))
        self.refused("snapshot", "b.qcow2", "one", says=["a snapshot 'one' already"])
        self.refused("revert", "b.qcow2", "two", says=["no snapshot 'two'", "penstock disk list"])
        for name in ("", "-x", "a b", "ä", "x" * 64):
            self.refused("snapshot", "--", "b.qcow2", name, says=["cannot be the name"])
        # Not the one whose number this is.
        self.good("snapshot", "--delete", "b.qcow2", "one")
        self.refused("snapshot", "--delete", "b.qcow2", "one", says=["no snapshot 'one'", "penstock disk list"])
        self.assertEqual([one["name"] for one in self.info("b.qcow2")["snapshots"]], ["2", "1"])
        self.good("revert", "b.qcow2", "2")
        self.assertEqual(self.contents("b.qcow2", "qcow2")[:5], b"first")
        self.good("revert", "b.qcow2", "1")
        self.assertEqual(self.contents("b.qcow2", "qcow2")[:5], b"\7" * 5)

    def test_what_a_machine_has_in_use(self):
        self.good("create", "base.img", "1M")
        self.good("clone", "base.img", "a.qcow2")
        self.be_a_machine("vm1")
        with open(self.files / "a.qcow2", "r+b"), open(self.files / "base.img", "rb"):
            self.assertEqual(self.info("a.qcow2")["used_by"], {"name": "vm1", "pid": os.getpid(), "writes": True})
            self.assertIs(self.info("base.img")["used_by"]["writes"], False)
            says = ["a.qcow2", f"the machine 'vm1' (pid {os.getpid()}) has it in use", "penstock stop vm1"]
            for words in (("resize", "--shrink", "a.qcow2", "1G"), ("revert", "a.qcow2", "s"), ("clone", "a.qcow2", "b.qcow2"), ("convert", "a.qcow2", "b.img")):
                self.refused(*words, says=says)
            self.refused("resize", "base.img", "1G", says=["the machine 'vm1'"])
            self.good("clone", "base.img", "c.qcow2")
        self.assertIsNone(self.info("a.qcow2")["used_by"])
        self.good("snapshot", "a.qcow2", "s")

    def test_a_machine_is_asked_to_change_its_disk(self):
        self.good("create", "base.img", "1M")
        self.good("clone", "base.img", "a.qcow2")
        self.be_a_machine("vm1")
        monitor = self.run_directory / "vm1.sock"
        with open(self.files / "base.img", "rb"):
            with open(self.files / "a.qcow2", "r+b"), FakeMonitor(monitor) as heard:
                self.good("resize", "a.qcow2", "4M")
                self.good("resize", "a.qcow2", "+4M")
                self.assertEqual(heard, [("block_resize", {"node-name": "disk0", "size": size * MIB})
                                         for size in (4, 5)])
                self.refused("resize", "a.qcow2", f"+{(1 << 63) - 5000}", says=["cannot be so large"])
                self.assertEqual(len(heard), 2)
                heard.clear()
                self.assertIn("what a power cut would have left", self.good("snapshot", "a.qcow2", "s"))
                self.assertEqual(heard, [("blockdev-snapshot-internal-sync", {"device": "disk0", "name": "s"})])
                self.refused("snapshot", "--delete", "a.qcow2", "s", says=["no snapshot 's'"])
                qemu_img("snapshot", "-q", "-c", "s", str(self.files / "a.qcow2"))
                self.refused("snapshot", "a.qcow2", "s", says=["a snapshot 's' already"])
                heard.clear()
                self.assertEqual(self.good("snapshot", "--delete", "a.qcow2", "s"), "")
                self.assertEqual(heard, [("blockdev-snapshot-delete-internal-sync", {"device": "disk0", "name": "s"})])
            with open(self.files / "a.qcow2", "r+b"), FakeMonitor(monitor, "disk0: it has 1 MiB; next: less") as heard:
                self.refused("resize", "a.qcow2", "4M", says=["vm1: disk0: it has 1 MiB\n  next: less"])
            # Of what it only reads it is not asked.
            with FakeMonitor(monitor) as heard:
                self.refused("resize", "base.img", "4M", says=["the machine 'vm1'", "penstock stop vm1"])
                self.assertEqual(heard, [])
        with open(self.files / "a.qcow2", "r+b"):
            self.refused("resize", "a.qcow2", "4M", says=["no machine of this name is running"])

    @contextlib.contextmanager
    def opened_by_qemu_io(self, name, file_format):
        with subprocess.Popen(["qemu-io", "-f", file_format, str(self.files / name)], stdin=subprocess.PIPE,
                              stdout=subprocess.PIPE) as other:
            other.stdin.write(b"length\n")
            other.stdin.flush()
            other.stdout.readline()
            yield
            other.communicate(b"quit\n")

    def test_what_another_program_has_in_use(self):
        self.good("create", "a.qcow2", "1M")
        self.good("create", "a.img", "1M")
        # Of a raw disk it lets others do what they like.
        for name, file_format in (("a.qcow2", "qcow2"), ("a.img", "raw")):
            with self.opened_by_qemu_io(name, file_format):
                for words in (("resize", name, "1G"), ("resize", "--shrink", name, "512K"), ("snapshot", name, "s"),
                              ("revert", name, "s"), ("convert", name, "b.img"), ("clone", name, "b.qcow2")):
                    self.refused(*words, says=[f"{name}: another program has this disk in use", f"fuser -v {name}"],
                                 never=[",readonly"])
            self.good("resize", "--shrink", name, "512K")

    def test_a_link_beside_an_image_leads_to_no_file_of_others(self):
        if os.geteuid() != 0:
            self.skipTest("only root could read it")
        (self.top / "secret").write_bytes(b"of root" + bytes(MIB))
        (self.top / "secret").chmod(0o600)
        qemu_img("create", "-q", "-f", "qcow2", "-u", "-F", "raw", "-b", "base.img", str(self.files / "a.qcow2"), "1M")
        os.chown(self.files / "a.qcow2", 65534, 65534)
        (self.files / "base.img").symlink_to("../secret")
        self.refused("convert", "a.qcow2", "b.img", says=["not everybody may read", "of the same owner"])
        # Whoever may write to the directory need not own the image.
        os.chown(self.files / "a.qcow2", 0, 0)
        self.refused("convert", "a.qcow2", "b.img", says=["not everybody may read"])
        os.chown(self.files / "a.qcow2", 65534, 65534)
        (self.files / "base.img").unlink()
        (self.files / "base.img").write_bytes(b"its own" + bytes(MIB - 7))
        (self.files / "base.img").chmod(0o600)
        os.chown(self.files / "base.img", 65534, 65534)
        self.good("convert", "a.qcow2", "b.img")

    def test_a_name_in_a_header_is_no_command_to_type(self):
        path = str(self.files / "a.qcow2")
        for name in ("b;reboot", "$(reboot)", "-x"):
            qemu_img("create", "-q", "-f", "qcow2", "-u", "-F", "vmdk", "-b", f"./{name}", path, "1M")
            said = self.disk("info", "a.qcow2").stderr.partition("of which format")[2]
            self.assertIn("qemu-img rebase -u -F FORMAT -b FILE a.qcow2", said)
        (self.files / "b;reboot").write_bytes(b"QFI\xfb")
        (self.files / "b;reboot").chmod(0o644)
        qemu_img("create", "-q", "-f", "qcow2", "-u", "-F", "qcow2", "-b", "b;reboot", path, "1M")
        self.refused("info", "a.qcow2", says=["b;reboot: this is no qcow2 image", "qemu-img check IMAGE"])

    def test_qemu_img_reaches_nothing_but_its_files(self):
        secret = self.top / "secret"
        secret.write_text("of root")
        secret.chmod(0o666)
        (self.top / "bin").mkdir()
        program = self.top / "bin/qemu-img"
        real = shutil.which("qemu-img")
        # As one that a hostile image has taken over, which then does what it is to do.
        program.write_text(f"""#!/bin/sh
if (read line <{secret}); then echo it reads >&2; exit 1; fi
if (echo x >>{secret}); then echo it writes >&2; exit 1; fi
if (echo x >>{self.files}/new); then echo it makes >&2; exit 1; fi
if (: >{secret}); then echo it empties >&2; exit 1; fi
exec {real} "$@"
""")
        program.chmod(0o755)
        path = f"{program.parent}:{os.environ['PATH']}"
        for words in (("create", "a.qcow2", "1M"), ("info", "a.qcow2"), ("convert", "a.qcow2", "b.img"),
                      ("clone", "b.img", "c.qcow2"), ("snapshot", "a.qcow2", "s"), ("revert", "a.qcow2", "s"),
                      ("resize", "a.qcow2", "2M"), ("list", "a.qcow2")):
            done = self.disk(*words, path=path)
            self.assertEqual((done.returncode, done.stderr), (0, ""), words)
        self.assertEqual(secret.read_text(), "of root")
        self.assertFalse((self.files / "new").exists())

    def test_many_snapshots(self):
        self.good("create", "a.qcow2", "1M")
        path = str(self.files / "a.qcow2")
        for number in range(250):
            qemu_img("snapshot", "-q", "-c", f"{number:063}", path)
        self.assertEqual(len(self.info("a.qcow2")["snapshots"]), 250)

    def test_names_are_no_commands_to_a_terminal(self):
        qemu_img("create", "-q", "-f", "qcow2", "-u", "-F", "raw", "-b", "x\x1b[31m", str(self.files / "a.qcow2"), "1M")
        said = self.disk("info", "a.qcow2").stderr
        self.assertIn("x?[31m", said)
        self.assertNotIn("\x1b", said)
        self.good("create", "b.qcow2", "1M")
        qemu_img("snapshot", "-c", "y\x1b[31m", str(self.files / "b.qcow2"))
        for verb in ("info", "list"):
            said = self.good(verb, "b.qcow2")
            self.assertIn("y?[31m", said)
            self.assertNotIn("\x1b", said)

    def test_a_full_file_system(self):
        full = self.files / "full"
        full.mkdir()
        if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", full], check=False,
                          stderr=subprocess.DEVNULL).returncode:
            self.skipTest("mount is not allowed")
        try:
            (self.files / "a.img").write_bytes(os.urandom(4 * MIB))
            self.refused("convert", "a.img", "full/b.qcow2", says=["full/b.qcow2", "No space left", "df -h"])
            self.assertEqual(os.listdir(full), [])
        finally:
            subprocess.run(["umount", full], check=True)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1] + sys.argv[2:], verbosity=1)
