"""A system call filter for the data process, by libseccomp where it is installed (seccomp(2), seccomp_init(3)).

After its start the process only moves packets: it waits, reads, writes, sends, receives, and asks for memory and time. All
other system calls fail with EPERM: no file is opened, nothing is executed, no other process is touched.
"""

import ctypes
import errno

LIBRARY = "libseccomp.so.2"
_ACT_ALLOW, _ACT_ERRNO = 0x7FFF0000, 0x00050000
_UNKNOWN = -1
_ALLOWED = (
    # waiting and moving data
    "epoll_wait", "epoll_pwait", "epoll_ctl", "poll", "ppoll", "read", "readv", "write", "writev", "close",
    "sendmsg", "sendmmsg", "sendto", "recvmsg", "recvfrom",
    # the probe for the path MTU, and the sockets that the control hands over
    "socket", "bind", "connect", "getsockopt", "setsockopt", "getsockname", "fcntl", "ioctl", "fstat", "newfstatat",
    # memory, time, signals, random bytes, the end
    "brk", "mmap", "munmap", "mremap", "madvise", "mprotect", "futex", "clock_gettime", "gettimeofday", "time",
    "rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "sigaltstack", "getrandom", "getpid", "gettid", "sched_yield",
    "restart_syscall", "rseq", "tgkill", "exit", "exit_group", "lseek",
)  # fmt: skip


def restrict_system_calls() -> bool:
    """Install the filter; returns False where libseccomp is not installed. Raises `OSError` if the kernel refuses it."""
    try:
        library = ctypes.CDLL(LIBRARY)
    except OSError:
        return False
    library.seccomp_init.restype = ctypes.c_void_p
    context = ctypes.c_void_p(library.seccomp_init(ctypes.c_uint32(_ACT_ERRNO | errno.EPERM)))
    if not context:
        raise OSError("seccomp_init failed")
    try:
        for name in _ALLOWED:
            number = library.seccomp_syscall_resolve_name(name.encode())
            if number == _UNKNOWN:
                continue
            code = library.seccomp_rule_add(
                context, ctypes.c_uint32(_ACT_ALLOW), ctypes.c_int(number), ctypes.c_uint(0)
            )
            if code < 0 and -code != errno.EDOM:  # EDOM: a call that this machine does not have
                raise OSError(-code, f"seccomp_rule_add {name}")
        code = library.seccomp_load(context)
        if code < 0:
            raise OSError(-code, "seccomp_load")
    finally:
        library.seccomp_release(context)
    return True
