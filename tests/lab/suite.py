#!/usr/bin/env python3
"""Runs the lab's tests on every kind of host that lab/hosts has: tests/lab/suite.py [NAME...]

It starts the hosts, two at a time and two of the kind that has most tests, follows tests/lab/run.py in them,
and adds up. A host that dies or hangs under a test is started anew for the tests that have not ended. Whether
that test is run again, too, depends on what brought the host down: what is known to be the emulator's fault
(emulator.py) is told and counted; anything else is a failure, and so is a test under which the host dies twice, or its
guest is stopped three times.

Some hosts run tests of another one again. Where nothing is named (a test, --host, --kernel), these are
only the most telling of them, and hosts whose kernel has not been built are left out, for that takes longer
than all the tests. Such tests were not asked for, so they are not counted as skipped, which is what
finds something missing when it is its turn; but their number is told before the summary.
"""

import argparse
import re
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.dont_write_bytecode = True

CHECKOUT = Path(__file__).resolve().parents[2]
sys.path.append(str(CHECKOUT / "lab"))

import early_boot                   # noqa: E402
import emulator                     # noqa: E402
from lablib import images, scenario     # noqa: E402

HOSTS = CHECKOUT / "lab/hosts"
RESULT = re.compile(r"(RUN|ok|FAIL|skip|STUCK) ([a-z0-9-]+)(?: |:|$)")
BOOTED_AGAIN, LOST = "starting it again", "LOST "
LEFT_OUT = "not asked for:"         # scripts/test repeats what begins so

# run.py keeps each test's own limit; what is silent for longer than any may take has hung as a whole.
SILENCE_SECONDS = 600
AT_ONCE = 2             # one keeps little more than one CPU busy
HALVED_ABOVE = 40       # tests, or the others would long have ended when this one does
TAIL_LINES = 40
# How often a test is run again where the emulator is to blame. That it has stopped a guest is seen in the guest's state.
DIED_AGAIN, STUCK_AGAIN = 1, 2
REPORT_CHARACTERS = 3000    # of a failure, told again at the end; its beginning and its end


class Suite:
    """The tests of one kind of host."""

    def __init__(self, host, options):
        self.host, self.options = host, options
        self.label = ""         # what its lines begin with, where it is not the only one
        self.left = []          # the tests that are still to run
        self.ended = {}         # the word for each test
        self.reports = []       # for each failure, what was said of it
        self.reporting = False  # the lines that come are such a report
        self.running = None
        self.stuck = False      # run.py says that the emulator has stopped a guest
        self.restarts = []      # why the host was started anew
        self.lost = []          # interrupts that the emulator did not deliver
        self.left_out = 0       # tests that it has, and that were not asked for
        self.died_under = []

    def choose(self, short):
        """All of its tests, or the most telling of them."""
        self.left = self._wanted("--short") if short else self._wanted()
        self.left_out = len(self._wanted()) - len(self.left)

    def halved(self):
        """This one and another of its kind, which has every other test."""
        other = Suite(self.host, self.options)
        self.left, other.left = self.left[::2], self.left[1::2]
        return [self, other]

    def leave_out(self, kernel):
        """Where none of its tests was meant there is nothing to say."""
        self.left_out = len(self._wanted())
        if self.left_out:
            self._say(f"suite: the host '{self.host}' is left out with its {self.left_out} tests, as its "
                      f"kernel is not built: `scripts/test lab-{kernel}` builds and tests it")

    def _say(self, line):
        print(f"{self.label}{line}\n", end="", flush=True)

    def run(self):
        while self.left:
            before = len(self.ended), len(self.died_under)
            complete = self._run_host(self.left)
            self.left = [name for name in self.left if name not in self.ended]
            if complete or before == (len(self.ended), len(self.died_under)):
                break
        for name in self.left:
            self._fail(name, "was not run")

    def _wanted(self, *how):
        """The names as given to run.py, and the tests that these are."""
        done = subprocess.run([CHECKOUT / "tests/lab/run.py", "--list", "--host", self.host,
                               *how, *self.options.names], stdout=subprocess.PIPE, text=True, check=True)
        return done.stdout.split()

    def _run_host(self, names):
        """One life of the host. Returns whether run.py came to its end."""
        with tempfile.TemporaryDirectory(prefix="penstock-lab-logs-") as logs:
            command = [self.options.lab_run, "--host", self.host, "--timeout", "0", "--logs", logs,
                       *(["--build", self.options.build] if self.options.build else []),
                       "--", "tests/lab/run.py", *names]
            self.running, self.stuck = None, False
            code = self._follow(command)
            if code in (0, 1) and not self.running:
                return True
            console, qemu, cpu, lapics = (self._log(logs, f"{name}.log") for name in
                                          ("console", "qemu", "cpu", "lapic"))
            self._died(code, console, qemu + "".join(re.findall("^Triple fault\n", cpu, re.MULTILINE)), lapics)
            return False

    @staticmethod
    def _log(directory, name):
        path = Path(directory, name)
        return path.read_text(errors="replace").replace("\r", "") if path.exists() else ""

    def _follow(self, command):
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                   stderr=subprocess.STDOUT, text=True, errors="replace")
        self.heard = time.monotonic()
        watch = threading.Thread(target=self._watch, args=[process], daemon=True)
        watch.start()
        for line in process.stdout:
            self.heard = time.monotonic()
            self._say(line.rstrip("\n"))
            self._note(line)
        return process.wait()

    def _watch(self, process):
        while process.poll() is None:
            time.sleep(1)
            if time.monotonic() - self.heard > self.options.silence:
                self._say(f"suite: the host has said nothing for {self.options.silence} s, it is ended")
                process.terminate()
                return

    def _note(self, line):
        if BOOTED_AGAIN in line:
            self.restarts.append("it did not come up")
        if line.startswith(LOST):
            self.lost.append(line.removeprefix(LOST).strip())
        found = RESULT.match(line)
        if not found:
            if self.reporting:
                self.reports[-1] += line
            return
        word, name = found.groups()
        self.reporting = word == "FAIL"
        if self.reporting:
            self.reports.append(line)
        if word == "RUN":
            self.running = name
            return
        self.running = name if word == "STUCK" else None
        self.stuck = word == "STUCK"
        if word != "STUCK":
            self.ended[name] = word

    def _died(self, code, console, qemu, lapics):
        """Blames the emulator or the test that was running."""
        name = self.running
        if not name:
            # Between two tests: run.py has said why it goes no further, or the lab failed.
            self.restarts.append(f"it could not go on (exit code {code})")
            return
        reason = ("the emulator has stopped a guest" if self.stuck
                  else emulator.verdict(console, qemu, name, lapics))
        tail = "\n".join([*console.splitlines()[-TAIL_LINES:], *qemu.splitlines()[-5:]])
        if not reason:
            self._fail(name, f"the host died or hung under it (exit code {code}), and nothing that is "
                             f"known of the emulator tells why; its kernel log, and what the emulator said, "
                             f"end:\n{tail}")
        elif self.died_under.count(name) == (STUCK_AGAIN if self.stuck else DIED_AGAIN):
            self._fail(name, f"the host died under it {self.died_under.count(name) + 1} times; this time: {reason}")
        else:
            self.died_under.append(name)
            self.restarts.append(f"{name}: {reason}")
            self._say(f"suite: the host is started anew: {reason}")

    def _fail(self, name, why):
        self.ended[name] = "FAIL"
        self.reporting = False
        self.reports.append(f"FAIL {name}: {why}\n")
        self._say(f"FAIL {name}: {why}")

    def count(self, word):
        return list(self.ended.values()).count(word)

    def weight(self):
        """How long it takes, in tests."""
        return len(self.left)


class EarlyBoot(Suite):
    """A host that boots from its own initramfs, which is not in the emulated one: early_boot.py."""

    def __init__(self, program, options):
        super().__init__(program, options)
        self.left = [f"early-boot-{program}"]

    def run(self):
        # dracut takes a minute to make an initramfs in the emulated host: its way back is a long test.
        code = self._follow([self.options.early_boot, "--short=dracut", self.host])
        for name in self.left:
            if name not in self.ended:
                self._fail(name, f"did not come to its end (exit code {code})")

    def weight(self):
        return 12


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--host", action="append", metavar="KIND",
                        help="only this kind of host; may be given more than once")
    parser.add_argument("--kernel", choices=images.KERNELS,
                        help="only the kinds of host that have this kernel")
    parser.add_argument("--build", metavar="DIR", help="the build to test instead of build/")
    parser.add_argument("--at-once", type=int, default=AT_ONCE, metavar="N",
                        help=f"how many hosts run beside each other ({AT_ONCE})")
    parser.add_argument("--silence", type=float, default=SILENCE_SECONDS, help=argparse.SUPPRESS)
    parser.add_argument("--lab-run", default=CHECKOUT / "lab/run", help=argparse.SUPPRESS)
    parser.add_argument("--early-boot", nargs="?", const=CHECKOUT / "tests/lab/early_boot.py", metavar="PROGRAM",
                        help="run early_boot.py's tests, too, beside the hosts")
    parser.add_argument("names", nargs="*", metavar="NAME", help="tests to run; may be globs")
    return parser.parse_args()


def kinds():
    """The ordinary one first."""
    names = sorted(path.stem for path in HOSTS.glob("*.conf"))
    return sorted(names, key=lambda name: name != "default")


def kernel_of(host):
    """As lab/run will see it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--kernel", default="debian")
    return parser.parse_known_args(scenario.words(scenario.find(host, HOSTS)))[0].kernel


def main():
    options = parse_arguments()
    suites = [suite for host in options.host or kinds() if options.kernel in (None, kernel_of(host))
              for suite in with_tests(host, options)]
    if options.early_boot:
        suites += [EarlyBoot(program, options) for program in early_boot.PACKAGES]
    # Who has most begins first, so that none goes on alone for long.
    suites.sort(key=lambda suite: -suite.weight())
    if len(suites) > 1:
        for suite in suites:
            mates = [mate for mate in suites if mate.host == suite.host]
            suite.label = f"{suite.host}{f'/{mates.index(suite) + 1}' if mates[1:] else ''}: "
    with ThreadPoolExecutor(options.at_once) as pool:
        list(pool.map(lambda suite: suite.run(), suites))
    return summary(suites)


def with_tests(host, options):
    """The host with what it has to run, or two of its kind that share that."""
    suite, kernel = Suite(host, options), kernel_of(host)
    if options.host or options.kernel or images.has_kernel(kernel):
        suite.choose(short=not (options.host or options.kernel or options.names))
    else:
        suite.leave_out(kernel)
    return suite.halved() if options.at_once > 1 and len(suite.left) > HALVED_ABOVE else [suite]


def shortened(report):
    half = REPORT_CHARACTERS // 2
    return report if len(report) <= 2 * half else f"{report[:half]}\n[...]\n{report[-half:]}"


def summary(suites):
    """Told at the end, where a log that was cut still has it; returns the exit code."""
    for suite in suites:
        for report in suite.reports:
            print(f"again, {suite.label}{shortened(report)}", end="")
    for suite in suites:
        for why in suite.restarts:
            print(f"suite: the host '{suite.host}' was started anew: {why}")
        for what in suite.lost:
            print(f"suite: the host '{suite.host}' lost an interrupt in {what}")
    passed, failed, skipped = (sum(suite.count(word) for suite in suites)
                               for word in ("ok", "FAIL", "skip"))
    restarts = sum(len(suite.restarts) for suite in suites)
    if restarts:
        print(f"suite: {restarts} times a host was started anew")
    lost = sum(len(suite.lost) for suite in suites)
    if lost:
        print(f"suite: {lost} times an interrupt was lost")
    left_out = [f"{suite.left_out} of '{suite.host}'" for suite in suites if suite.left_out]
    if left_out:
        print(f"{LEFT_OUT} {', '.join(left_out)}; `tests/lab/suite.py --host KIND` runs "
              f"all of one")
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    return 1 if failed or not passed + skipped else 0


if __name__ == "__main__":
    sys.exit(main())
