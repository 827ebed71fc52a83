"""The system calls that a sandboxed program has no business making, as a seccomp filter for bubblewrap.

Namespaces leave gaps that this closes: memory that no limit counts (System V and memfd segments), vsock, which no
network namespace hides, reading another process, and the parts of the kernel with the longest record of holes.
Numbers are those of the kernel's `unistd.h` for each architecture; the layout of the filter is that of
`linux/filter.h`.
"""

from __future__ import annotations

import errno
import platform
import socket
import struct

from distill.errors import BackendError

_AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_SOCKET_NUMBER = {"x86_64": 41, "aarch64": 198}
_X32_BIT = 0x40000000
"""x86_64 only: the bit of system calls in the 32-bit-pointer style, which have no use here."""

# name: (x86_64, aarch64)
_REFUSED_CALLS = {
    "shmget": (29, 194),
    "shmat": (30, 196),
    "semget": (64, 190),
    "msgget": (68, 186),
    "mq_open": (240, 180),
    "memfd_create": (319, 279),
    "memfd_secret": (447, 447),
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "pidfd_getfd": (438, 438),
    "kcmp": (312, 272),
    "unshare": (272, 97),
    "setns": (308, 268),
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "mount_setattr": (442, 442),
    "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
}
# instructions
_LOAD = 0x20
_JUMP_IF_EQUAL = 0x15
_JUMP_IF_AT_LEAST = 0x35
_RETURN = 0x06
# offsets in the kernel's `struct seccomp_data`
_NUMBER_OFFSET = 0
_ARCH_OFFSET = 4
_FIRST_ARGUMENT_OFFSET = 16
# what becomes of a call
_ALLOW = 0x7FFF0000
_KILL = 0x80000000
_ERRNO = 0x00050000


def program(machine: str = "") -> bytes:
    """The filter for a machine (default: this one): refused calls fail with EPERM, odd sockets with EAFNOSUPPORT.

    Raises:
        BackendError: the architecture is not known.
    """
    machine = machine or platform.machine()
    if machine not in _AUDIT_ARCH:
        raise BackendError(f"no system call filter for {machine}", fix="use x86_64 or aarch64, or sandbox kind fusion")
    refuse = (_RETURN, 0, 0, _ERRNO | errno.EPERM)
    steps = [
        (_LOAD, 0, 0, _ARCH_OFFSET),
        (_JUMP_IF_EQUAL, 1, 0, _AUDIT_ARCH[machine]),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, _NUMBER_OFFSET),
    ]
    if machine == "x86_64":
        steps += [(_JUMP_IF_AT_LEAST, 0, 1, _X32_BIT), refuse]
    for numbers in _REFUSED_CALLS.values():
        steps += [(_JUMP_IF_EQUAL, 0, 1, numbers[list(_AUDIT_ARCH).index(machine)]), refuse]
    steps += [
        (_JUMP_IF_EQUAL, 0, 5, _SOCKET_NUMBER[machine]),
        (_LOAD, 0, 0, _FIRST_ARGUMENT_OFFSET),
        (_JUMP_IF_EQUAL, 3, 0, socket.AF_UNIX),
        (_JUMP_IF_EQUAL, 2, 0, socket.AF_INET),
        (_JUMP_IF_EQUAL, 1, 0, socket.AF_INET6),
        (_RETURN, 0, 0, _ERRNO | errno.EAFNOSUPPORT),
        (_RETURN, 0, 0, _ALLOW),
    ]
    return b"".join(struct.pack("=HBBI", *step) for step in steps)
