#!/usr/bin/env python3
"""tests/lab/suite.py must lose no failure, whatever becomes of the host. Hosts are scripts here."""

import os
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

sys.dont_write_bytecode = True
CHECKOUT = Path(__file__).resolve().parents[2]
sys.path.append(str(CHECKOUT / "tests/lab"))

import emulator                     # noqa: E402
import hang                         # noqa: E402
import harness                      # noqa: E402
import kernel_log                   # noqa: E402
import run                          # noqa: E402,F401   (all tests)
import runner                       # noqa: E402
import suite as lab_suite           # noqa: E402
from lablib import cache, kernel    # noqa: E402

FIRST, SECOND, THIRD = "small-guest", "two-disks-two-cpus", "dma-outside-of-guest-memory"
INT3 = "Oops: int3: 0000 [#1] PREEMPT SMP"
TIMER = "rcu: \tPossible timer handling issue on cpu=1 timer-softirq=12"

# Takes lab/run's place: life after life, says one text, leaves one kernel log, ends with one code.
STUB = """#!/bin/sh
cd {directory}
life=1
until mkdir life.$life 2>/dev/null; do life=$((life + 1)); done
echo "$@" > arguments.$life
while [ "$1" != --logs ]; do shift; done
cp console.$life "$2/console.log"
cp lapics "$2/lapic.log"
cp cpu "$2/cpu.log"
cat said.$life
exec sh end.$life
"""


def result(word, name):
    return f"RUN {name}\n{word} {name} (1.0 s)\n"


def lapic(cpu, served):
    return (f"dumping local APIC state for CPU {cpu} \n\nLVT0\t 0x00010700 active-hi edge\n"
            f"ICR2\t 0x01000000 cpu 1 (APIC ID)\nESR\t 0x00000000\n"
            f"ISR\t {served}\nIRR\t 40 43 236 \n\n"
            "APR 0x00 TPR 0x10 DFR 0x0f LDR 0x00 PPR 0xe0\n\n")


class Base(unittest.TestCase):
    lapics = ""     # what QEMU says of a host that is silent
    cpu = ""        # what QEMU logs of CPUs

    def suite(self, *lives, names=(FIRST, SECOND, THIRD), silence=20, hosts=("--host", "default"),
              built=False, at_once=1):
        with tempfile.TemporaryDirectory() as name:
            directory = Path(name)
            (directory / "lapics").write_text(self.lapics)
            (directory / "cpu").write_text(self.cpu)
            for number, (said, console, end) in enumerate(lives, 1):
                (directory / f"said.{number}").write_text(said)
                (directory / f"console.{number}").write_text(console)
                (directory / f"end.{number}").write_text(end if isinstance(end, str) else f"exit {end}")
            stub = directory / "lab-run"
            stub.write_text(STUB.format(directory=directory))
            stub.chmod(0o755)
            if built:
                (directory / f"kernel-{cache.digest(*kernel.inputs())}").mkdir()
            done = subprocess.run([CHECKOUT / "tests/lab/suite.py", *hosts, "--lab-run", stub,
                                   "--silence", str(silence), "--at-once", str(at_once), *names],
                                  capture_output=True, text=True,
                                  env={**os.environ, "PENSTOCK_LAB_CACHE": str(directory)})
            words = [path.read_text().split() for path in sorted(directory.glob("arguments.*"))]
            self.asked = [line[line.index("--") + 2:] for line in words]
            self.started = [line[line.index("--host") + 1] for line in words]
        self.output = done.stdout + done.stderr
        return done.stdout.splitlines()[-1], done.returncode


class Host(Base):
    def test_all_pass(self):
        said = "".join(result("ok", name) for name in (FIRST, SECOND, THIRD))
        self.assertEqual(self.suite((said, "", 0)), ("3 passed, 0 failed, 0 skipped", 0))
        self.assertEqual(self.asked, [[FIRST, SECOND, THIRD]])

    def test_a_failure_before_the_host_dies_is_kept(self):
        first = result("FAIL", FIRST) + f"RUN {SECOND}\n"
        second = result("ok", SECOND) + result("ok", THIRD)
        self.assertEqual(self.suite((first, f"lab: begin {SECOND}\n{INT3}", 125), (second, "", 0)),
                         ("2 passed, 1 failed, 0 skipped", 1))
        self.assertEqual(self.asked[1], [SECOND, THIRD])
        self.assertIn("started anew: " + SECOND, self.output)
        self.assertIn("1 times a host was started anew", self.output)

    def test_failures_are_told_again_at_the_end(self):
        said = f"RUN {FIRST}\nFAIL {FIRST}: no such\n  file\n" + result("ok", SECOND) + result("ok", THIRD)
        self.assertEqual(self.suite((said, "", 1)), ("2 passed, 1 failed, 0 skipped", 1))
        self.assertTrue(self.output.endswith(f"\nagain, FAIL {FIRST}: no such\n  file\n"
                                             "2 passed, 1 failed, 0 skipped\n"))
        self.suite(("lab: not up after 180 s\n", "", 125))
        self.assertEqual(self.output.count(f"FAIL {THIRD}: was not run\n"), 2)

    def test_a_death_of_unknown_cause_is_a_failure_of_the_test(self):
        for console in ("", "WARNING: CPU: 0 PID: 1 at vfio.c", f"{INT3}\nBUG: unable to handle",
                        f"{TIMER}\nDMAR: [DMA Read] Request device [01:00.0] fault addr 0x1000",
                        f"{TIMER}\nCall Trace:\n mutex_lock+0x1/0x2\n vfio_pci_open+0x1/0x2\n </TASK>",
                        "rcu: INFO: rcu_preempt detected stalls on CPUs/tasks"):
            first, second = f"RUN {FIRST}\n", result("ok", SECOND) + result("ok", THIRD)
            with self.subTest(console=console):
                console = f"lab: begin {FIRST}\n{console}"
                self.assertEqual(self.suite((first, console, 125), (second, "", 0)),
                                 ("2 passed, 1 failed, 0 skipped", 1))
                self.assertEqual(self.asked[1], [SECOND, THIRD])

    def test_a_triple_fault_without_a_word_is_the_emulators(self):
        said = "".join(result("ok", name) for name in (FIRST, SECOND, THIRD))
        for cpu, console, outcome in (("CPU Reset (CPU 0)\nTriple fault\n", "", ("3 passed, 0 failed, 0 skipped", 0)),
                                      ("CPU Reset (CPU 0)\n", "", ("2 passed, 1 failed, 0 skipped", 1)),
                                      ("Triple fault\n", "Oops: 0000 [#1]\n", ("2 passed, 1 failed, 0 skipped", 1))):
            with self.subTest(cpu=cpu, console=console):
                self.cpu = cpu
                rest = said if outcome[1] == 0 else result("ok", SECOND) + result("ok", THIRD)
                console = f"lab: begin {FIRST}\n{console}"
                self.assertEqual(self.suite((f"RUN {FIRST}\n", console, 125), (rest, "", 0)), outcome)

    def test_a_stall_without_a_lock_is_the_emulators(self):
        console = (f"lab: begin {FIRST}\n{TIMER}\n"
                   "Call Trace:\n svm_vcpu_run+0x1/0x2\n kvm_arch_vcpu_ioctl_run+0x1/0x2\n </TASK>\n"
                   "Kernel panic - not syncing: RCU Stall")
        said = "".join(result("ok", name) for name in (FIRST, SECOND, THIRD))
        self.assertEqual(self.suite((f"RUN {FIRST}\n", console, 125), (said, "", 0)),
                         ("3 passed, 0 failed, 0 skipped", 0))

    def test_where_a_stalled_cpu_was(self):
        stall = ("rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:\n"
                 "rcu: \t0-....: ({} ticks this GP) idle=a5bc/1/0x4000000000000000\n"
                 "Sending NMI from CPU 1 to CPUs 0:\nNMI backtrace for cpu 0\n"
                 "CPU: 0 UID: 0 PID: 222 Comm: sh\nRIP: {}\nCode: 00\nCall Trace:\n do_idle+0x1/0x2\n"
                 "Kernel panic - not syncing: RCU Stall\nRIP: 0033:0x7f731b04fdeb")
        for ticks, place, known in (
                (0, "0033:0x7fc4808262c0", True), (2, "0033:0x55a352b957ec", True),
                (5252, "0033:0x7fc4808262c0", False),
                (0, "0010:svm_vcpu_run+0x259/0x850 [kvm_amd]", True),
                (0, "0010:native_queued_spin_lock_slowpath+0x1/0x2", False),
                (0, "0010:vfio_pci_core_ioctl+0x1/0x2", False)):
            with self.subTest(ticks=ticks, place=place):
                self.assertEqual(bool(emulator.verdict(stall.format(ticks, place), "")), known)

    def test_an_interrupt_that_stays_in_service(self):
        for first, second, told in ((("236 ", "(none)"), ("236 ", "(none)"), "CPU 0 has vector 236"),
                                    (("236 ", "(none)"), ("40 236 ", "236 "), "CPU 0 has vector 236"),
                                    (("(none)", "40 "), ("236 ", "40 "), "CPU 1 has vector 40"),
                                    (("236 ", "40 "), ("40 ", "(none)"), ""),
                                    (("(none)", "(none)"), ("(none)", "(none)"), "")):
            with self.subTest(first=first, second=second):
                said = "".join(lapic(cpu, served) for sample in (first, second)
                               for cpu, served in enumerate(sample))
                self.assertTrue(emulator.lost_interrupts(said).startswith(told))
                self.assertEqual(bool(emulator.lost_interrupts(said)), bool(told))
        self.assertEqual(emulator.lost_interrupts(lapic(0, "236 ")), "")
        self.assertEqual(emulator.lost_interrupts(""), "")

    def test_what_was_logged_before_the_test_does_not_count(self):
        console = f"lab: begin {FIRST}\n{INT3}\nlab: begin {SECOND}\n"
        first, second = result("ok", FIRST) + f"RUN {SECOND}\n", result("ok", THIRD)
        self.assertEqual(self.suite((first, console, 125), (second, "", 0)),
                         ("2 passed, 1 failed, 0 skipped", 1))

    def test_faults_that_a_test_asks_for_are_not_held_against_it(self):
        console = f"lab: begin {THIRD} (DMA faults are expected)\nDMAR: fault addr 0x1\n{INT3}"
        self.assertEqual(self.suite((f"RUN {THIRD}\n", console, 125), (result("ok", THIRD), "", 0),
                                    names=[THIRD]), ("1 passed, 0 failed, 0 skipped", 0))

    def test_dying_twice_is_a_failure(self):
        death = (f"RUN {FIRST}\n", f"lab: begin {FIRST}\n{INT3}", 125)
        self.assertEqual(self.suite(death, death, (result("ok", SECOND) + result("ok", THIRD), "", 0)),
                         ("2 passed, 1 failed, 0 skipped", 1))
        self.assertEqual(self.asked[2], [SECOND, THIRD])

    def test_a_stuck_guest_is_tried_twice_more(self):
        stuck = (f"RUN {FIRST}\nSTUCK {FIRST}: no timer\n", "", 3)
        rest = result("ok", SECOND) + result("ok", THIRD)
        self.assertEqual(self.suite(stuck, (result("ok", FIRST) + rest, "", 0)),
                         ("3 passed, 0 failed, 0 skipped", 0))
        self.assertEqual(self.suite(stuck, stuck, (result("ok", FIRST) + rest, "", 0)),
                         ("3 passed, 0 failed, 0 skipped", 0))
        self.assertIn("2 times a host was started anew", self.output)
        self.assertEqual(self.suite(stuck, stuck, stuck, (rest, "", 0)), ("2 passed, 1 failed, 0 skipped", 1))

    def test_a_lost_interrupt_is_told_and_counted(self):
        said = f"RUN {FIRST}\nLOST {FIRST}: nvme0: polled\nok {FIRST} (1.0 s)\n"
        said += result("ok", SECOND) + result("ok", THIRD)
        self.assertEqual(self.suite((said, "", 0)), ("3 passed, 0 failed, 0 skipped", 0))
        self.assertIn(f"the host 'default' lost an interrupt in {FIRST}: nvme0: polled\n", self.output)
        self.assertIn("1 times an interrupt was lost", self.output)

    def test_a_host_that_cannot_go_on_is_replaced(self):
        first = result("FAIL", FIRST) + "run.py: the host cannot be set back\n"
        self.assertEqual(self.suite((first, "", 3), (result("ok", SECOND) + result("skip", THIRD), "", 0)),
                         ("1 passed, 1 failed, 1 skipped", 1))

    def test_a_host_that_never_comes_up(self):
        self.assertEqual(self.suite(("lab: not up after 180 s\n", "", 125)),
                         ("0 passed, 3 failed, 0 skipped", 1))

    def test_a_runner_that_ends_early_has_failed(self):
        self.assertEqual(self.suite((result("ok", FIRST), "", 0)), ("1 passed, 2 failed, 0 skipped", 1))
        self.assertEqual(self.suite((result("ok", FIRST), "", 1)), ("1 passed, 2 failed, 0 skipped", 1))

    def test_two_hosts_beside_each_other(self):
        """The first one's test ends when the second has begun, and whose failure it is can be told."""
        lives = (("", "", f"until [ -e arguments.2 ]; do sleep 0.1; done; echo 'ok {FIRST} (1.0 s)'"),
                 (result("FAIL", FIRST), "", "exit 1"))
        hosts = "--host", "default", "--host", "type1"
        self.assertEqual(self.suite(*lives, names=[FIRST], hosts=hosts, at_once=2,
                                    silence=5),
                         ("1 passed, 1 failed, 0 skipped", 1))
        failed = self.started[1]
        self.assertEqual(sorted(self.started), ["default", "type1"])
        self.assertIn(f"{failed}: FAIL {FIRST}", self.output)

    def test_two_hosts_share_many_tests(self):
        self.suite(*[("", "", 3)] * 2, names=(), at_once=2)
        self.assertEqual(self.started, ["default"] * 2)
        first, second = map(set, self.asked)
        self.assertFalse(first & second)
        self.assertLessEqual(abs(len(first) - len(second)), 1)
        self.assertEqual(first | second, {one.name for one in harness.selected("default", [])})
        self.assertIn("default/2: FAIL ", self.output)
        self.suite(("", "", 0), names=(), at_once=1)
        self.assertEqual(len(self.asked), 1)

    def test_early_boot_beside_the_hosts(self):
        with tempfile.TemporaryDirectory() as directory:
            program = Path(directory, "early-boot")
            program.write_text('#!/bin/sh\n[ "$2" = dracut ] || echo ok early-boot-$2\n')
            program.chmod(0o755)
            self.assertEqual(self.suite((result("ok", FIRST), "", 0), names=[f"--early-boot={program}", FIRST]),
                             ("2 passed, 1 failed, 0 skipped", 1))
        self.assertIn("FAIL early-boot-dracut: did not come to its end", self.output)

    def test_a_host_that_says_nothing_is_ended(self):
        hung = (f"RUN {FIRST}\n", f"lab: begin {FIRST}\n", "exec sleep 60")
        rest = (result("ok", SECOND) + result("ok", THIRD), "", 0)
        self.assertEqual(self.suite(hung, rest, silence=2), ("2 passed, 1 failed, 0 skipped", 1))

    def test_a_host_that_says_nothing_as_an_interrupt_was_lost(self):
        self.lapics = 3 * (lapic(0, "(none)") + lapic(1, "236 "))
        hung = (f"RUN {FIRST}\n", f"lab: begin {FIRST}\n", "exec sleep 60")
        rest = ("".join(result("ok", name) for name in (FIRST, SECOND, THIRD)), "", 0)
        self.assertEqual(self.suite(hung, rest, silence=2), ("3 passed, 0 failed, 0 skipped", 0))
        self.assertIn("CPU 1 has vector 236 in service", self.output)
        self.assertIsNone(emulator.verdict("WARNING: CPU: 0 PID: 1 at vfio.c", "", lapics=self.lapics))


class SecondKernel(Base):
    """Its hosts run where it has been built or is asked for, and are never left out in silence."""

    again = sorted(host for host, again in harness.AGAIN.items() if "passthrough" in again.files)
    on_it = [host for host in again if lab_suite.kernel_of(host) == "newest"]
    ok = (result("ok", FIRST), "", 0)

    def run_first(self, started, **options):
        passed = f"{len(started)} passed, 0 failed, 0 skipped", 0
        self.assertEqual(self.suite(*[self.ok] * len(started), names=[FIRST], **options), passed)
        self.assertEqual(self.started, started)

    def test_not_built(self):
        others = [host for host in self.again if host not in self.on_it]
        self.run_first(["default", *others], hosts=())
        for host in self.on_it:
            self.assertIn(f"the host '{host}' is left out with its 1 tests", self.output)
        left_out = ", ".join(f"1 of '{host}'" for host in self.on_it)
        self.assertIn(f"not asked for: {left_out}; `tests/lab/suite.py --host KIND`", self.output)

    def test_built(self):
        self.run_first(["default", *self.again], hosts=(), built=True)

    def test_asked_for(self):
        for hosts, started in ((("--kernel", "newest"), self.on_it),
                               (("--host", self.on_it[0]), self.on_it[:1])):
            with self.subTest(hosts=hosts):
                self.run_first(started, hosts=hosts)

    def test_a_failure_beside_what_is_left_out(self):
        failed = (result("FAIL", FIRST), "", 1)
        self.assertEqual(self.suite(failed, self.ok, names=[FIRST], hosts=()),
                         ("1 passed, 1 failed, 0 skipped", 1))

    def test_a_choice_and_all(self):
        """Without a name the hosts run what is theirs and what harness.AGAIN says, and tell how much there is beside."""
        for hosts, short in (((), True), (("--kernel", "newest"), False)):
            with self.subTest(hosts=hosts):
                self.suite(*[("", "", 0)] * 10, names=(), hosts=hosts, built=True)
                asked = dict(zip(self.started, self.asked))
                for host in harness.AGAIN if short else self.on_it:
                    there = {one.name for one in harness.selected(host, [])}
                    own = {one.name for one in harness.tests if one.host == host and not one.long}
                    wanted = own | set(harness.AGAIN[host].short) if short else there
                    self.assertEqual(set(asked[host]), wanted)
                    told = f"{len(there - wanted)} of '{host}'" in self.output
                    self.assertEqual(told, short)

    def test_the_choice_is_of_tests_that_there_are(self):
        for host, again in harness.AGAIN.items():
            there = {one.name for one in harness.selected(host, [])}
            self.assertLessEqual(set(again.short), there)

    def test_a_test_that_is_not_among_theirs(self):
        self.assertEqual(self.suite((result("ok", "usage"), "", 0), names=["usage"], hosts=()),
                         ("1 passed, 0 failed, 0 skipped", 0))
        self.assertNotIn("left out", self.output)


class LastWords(unittest.TestCase):
    """What a machine said at its end: the emulator's error is told apart."""

    @staticmethod
    def of(errors):
        machine = object.__new__(harness.Machine)
        machine.output, machine.errors = "", lambda: errors
        return machine.last_words()

    def test_an_error_of_delivery_is_the_emulators(self):
        with self.assertRaises(hang.EmulatorStuck):
            self.of("penstock: vCPU 0: KVM cannot go on (suberror 3)\n")
        self.assertIn("suberror 1", self.of("penstock: vCPU 0: KVM cannot go on (suberror 1)\n"))


class Log(unittest.TestCase):
    def test_what_the_kernel_complains_of(self):
        for line in ("WARNING: CPU: 1 PID: 2 at drivers/vfio/vfio_main.c:1", "BUG: unable to handle",
                     "Oops: 0000 [#1]", "general protection fault, probably for",
                     "INFO: task penstock:12 blocked for more than 60 seconds.",
                     "rcu: INFO: rcu_preempt self-detected stall on CPU"):
            self.assertTrue(kernel_log.COMPLAINT.search(line), line)
        for line in ("vfio-pci 0000:01:00.0: resetting", "kvm: vcpu0, guest rIP: 0x1 Unhandled WRMSR"):
            self.assertFalse(kernel_log.COMPLAINT.search(line), line)

    def test_lost_interrupts(self):
        test = harness.Test("inner", "default", None, 0, False, None)
        lost = "nvme nvme0: I/O tag 24 (5018) opcode 0x6 (Admin Cmd) QID 0 timeout, completion polled"
        self.assertEqual(runner.judge(test, ["nvme nvme0: 2/0/0 default/read/poll queues"]), "")
        self.assertEqual(runner.judge(test, ["one", lost, "two"]), lost)
        with self.assertRaisesRegex(harness.Failure, "do not arrive"):
            runner.judge(test, [lost, lost])
        with self.assertRaisesRegex(harness.Failure, "complains"):
            runner.judge(test, [lost, "BUG: unable to handle"])

    def test_faults(self):
        self.assertTrue(kernel_log.FAULT.search(
            "DMAR: [DMA Read NO_PASID] Request device [00:08.0] fault addr 0x1 [fault reason 0x06]"))
        self.assertFalse(kernel_log.FAULT.search("DMAR: IOMMU enabled"))


if __name__ == "__main__":
    sys.exit(unittest.main())
