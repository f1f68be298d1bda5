"""Child processes that do not outlive us, even where we are killed without a chance to tidy up."""

import ctypes
import os
import signal

PR_SET_PDEATHSIG = 1


def dying_with_parent(number=signal.SIGKILL):
    """For Popen's preexec_fn: the child gets this signal when its parent ends."""
    parent = os.getpid()
    libc = ctypes.CDLL(None)        # now, as little is safe between fork and exec

    def prepare():
        libc.prctl(PR_SET_PDEATHSIG, int(number), 0, 0, 0)
        if os.getppid() != parent:
            os._exit(1)

    return prepare
