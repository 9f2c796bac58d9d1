"""The system's side of a mount: attaching and detaching, what is mounted there, who uses a mount, and the log.

Owns mount(2), fusermount3 and /proc. Knows nothing of trees or of the FUSE protocol. Linux only.
"""

from __future__ import annotations

import array
import ctypes
import errno
import os
import re
import shutil
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator

from ..errors import MountConflictError, MountError, NotAllowedError
from ..mounttable import OWN_TYPE, Mounted, mount_table

TYPE = OWN_TYPE
DEVICE = "/dev/fuse"

_MS_RDONLY, _MS_NOSUID, _MS_NODEV, _MS_NOEXEC = 1, 2, 4, 8
_MNT_FORCE, _MNT_DETACH = 1, 2
_PR_SET_CHILD_SUBREAPER = 36
_CAP_SYS_ADMIN = 21
_MAX_READ = 1 << 20
_READ_AHEAD_KB = b"4096"
"""One block, in four requests that several workers answer at once: a tenth faster than 1 MiB, measured."""
_READ_AHEAD_KB_FAR = b"512"
"""What is read of a mapped file brings that much around it, which may be another block to fetch; whole blocks are
fetched ahead by the reader itself."""
_MOST_LINKS = 40
_GLANCE = 2.0
"""Seconds that a look at a mount may take, which answers at once or never."""
_PLAIN_ENVIRONMENT = {"PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", "LC_ALL": "C"}


def mounted_at(mountpoint: str) -> Mounted | None:
    """What was mounted last at that (absolute, real) path."""
    return next((row for row in reversed(mount_table()) if row.mountpoint == mountpoint), None)


def is_mounted_there(mountpoint: str, device: str) -> bool:
    """Whether what was mounted last at that path is the file system of that `major:minor`."""
    row = mounted_at(mountpoint)
    return row is not None and row.device == device


def is_mounted(device: str) -> bool:
    """Whether the file system of that `major:minor` is mounted anywhere, if only below another mount."""
    return any(row.device == device for row in mount_table())


def real_place(path: str) -> str:
    """The absolute, real path of a directory, found without a question to what is mounted at it: it may never answer.

    Raises MountError where links go round in circles.
    """
    for _ in range(_MOST_LINKS):
        path = os.path.join("" if os.path.isabs(path) else os.getcwd(), path)
        parent, name = os.path.split(path.rstrip("/") or "/")
        if name == ".":
            path = parent
            continue
        if name in ("", ".."):
            return os.path.realpath(path)
        parent = os.path.realpath(parent)
        place = os.path.join(parent, name)
        if mounted_at(place) is not None:
            return place
        try:
            path = os.path.join(parent, os.readlink(place))
        except OSError:
            return place
    raise MountError(f"{path} is a link that leads to itself; choose a directory")


def within(seconds: float, action: Callable[[], object]) -> None:
    """Do what may wait for ever on a file system. Raises what it raises, TimeoutError when it takes longer."""
    raised: list[BaseException] = []

    def act() -> None:
        try:
            action()
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=act, daemon=True)  # one that still waits ends with the process
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        raise TimeoutError
    if raised:
        raise raised[0]


def is_dead(mountpoint: str) -> bool:
    """Whether nobody serves the mount any more: `Transport endpoint is not connected`."""
    try:
        within(_GLANCE, lambda: os.stat(mountpoint))
    except TimeoutError:
        return False
    except OSError as error:
        return error.errno in (errno.ENOTCONN, errno.ECONNABORTED)
    return False


def is_privileged() -> bool:
    """Whether this process may call mount(2)."""
    with open("/proc/self/status", encoding="ascii") as status:
        for line in status:
            if line.startswith("CapEff:"):
                return bool(int(line.split()[1], 16) >> _CAP_SYS_ADMIN & 1)
    return False


def may_pass_through() -> bool:
    """Whether the kernel takes backing files from this process: CAP_SYS_ADMIN outside of any user namespace."""
    with open("/proc/self/uid_map", encoding="ascii") as mapping:
        return is_privileged() and mapping.read().split() == ["0", "0", "4294967295"]


def attach(mountpoint: str, source: str, *, allow_other: bool, noexec: bool = False) -> int:
    """Mount a new FUSE connection; the descriptor of its device. Raises MountError, NotAllowedError."""
    options = f"default_permissions,max_read={_MAX_READ}" + (",allow_other" if allow_other else "")
    if not is_privileged():
        return _attach_by_helper(mountpoint, source, options + (",noexec" if noexec else ""))
    try:
        device = os.open(DEVICE, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        raise MountError(f"{DEVICE} cannot be opened ({error.strerror}); load the kernel's fuse module") from None
    data = f"fd={device},rootmode=40000,user_id={os.getuid()},group_id={os.getgid()},{options}"
    flags = _MS_RDONLY | _MS_NOSUID | _MS_NODEV | (_MS_NOEXEC if noexec else 0)
    code = _call("mount", os.fsencode(source), os.fsencode(mountpoint), TYPE.encode(), flags, data.encode())
    if code:
        os.close(device)
        raise MountError(f"{mountpoint} cannot be mounted; {os.strerror(code)}")
    return device


def detach(mountpoint: str, *, lazy: bool = False, force: bool = False) -> None:
    """Unmount; `lazy` also while it is in use. Raises MountConflictError when it is in use, MountError.

    `force` makes requests without an answer fail, where we may.
    """
    if is_privileged():
        code = _call("umount2", os.fsencode(mountpoint), _MNT_DETACH * lazy | _MNT_FORCE * force)
        if code == errno.EBUSY:
            raise MountConflictError(f"{mountpoint} is in use")
        if code:
            raise MountError(f"{mountpoint} cannot be unmounted; {os.strerror(code)}")
        return
    ended = _run_helper(["-u", *(["-z"] if lazy else []), "--", mountpoint])
    if ended.returncode:
        text = ended.stderr.decode(errors="replace").strip()
        if "busy" in text.lower():
            raise MountConflictError(f"{mountpoint} is in use")
        raise MountError(f"{mountpoint} cannot be unmounted; {text or 'fusermount3 failed'}")


def abort(device: str) -> None:
    """End the FUSE connection of that `major:minor`: nobody is to wait for its answers. Harmless where we may not."""
    try:
        path = f"/sys/fs/fuse/connections/{device.partition(':')[2]}/abort"
        descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    except OSError:
        return
    try:
        os.write(descriptor, b"1")
    except OSError:
        pass
    finally:
        os.close(descriptor)


def adopt_orphans() -> None:
    """Become the parent of whatever descends from this process and has lost its own. Raises MountError."""
    code = _call("prctl", _PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    if code:
        raise MountError(f"this system cannot keep a mount's processes together; {os.strerror(code)}")


def check_allow_other() -> None:
    """Raises NotAllowedError where an ordinary user may not let others in."""
    if is_privileged():
        return
    try:
        with open("/etc/fuse.conf", encoding="utf-8", errors="replace") as configuration:
            if any(line.strip() == "user_allow_other" for line in configuration):
                return
    except OSError:
        pass
    raise NotAllowedError("--allow-other is not allowed here; it needs the line user_allow_other in /etc/fuse.conf")


def set_read_ahead(mountpoint: str, *, far: bool = False) -> bool:
    """Let the kernel ask for 4 MiB ahead, 1 MiB a request, when a file is read in order; False where we may not.

    Of files that are `far`, 512 KiB.
    """
    row = mounted_at(mountpoint)
    if row is None:
        return False
    try:
        descriptor = os.open(f"/sys/class/bdi/{row.device}/read_ahead_kb", os.O_WRONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        os.write(descriptor, _READ_AHEAD_KB_FAR if far else _READ_AHEAD_KB)
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True


def users_of(mountpoint: str) -> list[str]:
    """Who has something open below a mount, as far as we may see: `bash (pid 12, current directory)`."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        how = next(_uses(f"/proc/{pid}", mountpoint), None)
        if how is not None:
            found.append(f"{_command(pid)} (pid {pid}, {how})")
    return found


def process_start(pid: int) -> int | None:
    """When a process started, in the kernel's ticks, to tell it from a later one with its number; None: it is gone."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b") ")[2].split()
    except OSError:
        return None
    return None if fields[0] in (b"Z", b"X") else int(fields[19])


def _call(function: str, *arguments: bytes | int) -> int:
    """Call the C library; 0 or the errno."""
    library = ctypes.CDLL(None, use_errno=True)
    return 0 if getattr(library, function)(*arguments) == 0 else ctypes.get_errno()


def _attach_by_helper(mountpoint: str, source: str, options: str) -> int:
    escaped = source.replace("\\", "\\\\").replace(",", "\\,")
    words = f"{options},ro,nosuid,nodev,fsname={escaped},subtype={TYPE.partition('.')[2]}"
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ended = _run_helper(["-o", words, "--", mountpoint], theirs.fileno())
        if ended.returncode:
            text = re.sub(r"\A(\S*/)?fusermount3: ", "", ended.stderr.decode(errors="replace").strip())
            raise MountError(f"{mountpoint} cannot be mounted; {text or 'fusermount3 failed'}")
        numbers = array.array("i")
        size = socket.CMSG_SPACE(numbers.itemsize)
        _, messages, _, _ = ours.recvmsg(1, size)
    for level, kind, data in messages:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            numbers.frombytes(data[: numbers.itemsize])
            os.set_inheritable(numbers[0], False)
            return numbers[0]
    raise MountError(f"{mountpoint} cannot be mounted; fusermount3 gave no device")


def _run_helper(words: list[str], socket_number: int | None = None) -> subprocess.CompletedProcess[bytes]:
    helper = shutil.which("fusermount3", path=_PLAIN_ENVIRONMENT["PATH"])
    if helper is None:
        raise MountError("fusermount3 is not installed; install the package fuse3, or mount as root")
    environment = dict(_PLAIN_ENVIRONMENT)
    if socket_number is not None:
        environment["_FUSE_COMMFD"] = str(socket_number)
    return subprocess.run(
        [helper, *words],
        env=environment,
        pass_fds=[] if socket_number is None else [socket_number],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )


def _uses(process: str, mountpoint: str) -> Iterator[str]:
    for name, how in (("cwd", "current directory"), ("root", "root directory"), ("exe", "program")):
        if _is_below(_link(f"{process}/{name}"), mountpoint):
            yield how
    try:
        descriptors = os.listdir(f"{process}/fd")
    except OSError:
        return
    for descriptor in descriptors:
        target = _link(f"{process}/fd/{descriptor}")
        if _is_below(target, mountpoint):
            yield f"open {target}"
    try:
        with open(f"{process}/maps", encoding="utf-8", errors="surrogateescape") as maps:
            for line in maps:
                path = line.rstrip("\n").split(" ", 5)[-1].strip()
                if _is_below(path, mountpoint):
                    yield f"mapped {path}"
    except OSError:
        return


def _link(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""


def _is_below(path: str, mountpoint: str) -> bool:
    return path == mountpoint or path.startswith(mountpoint.rstrip("/") + "/")


def _command(pid: str) -> str:
    try:
        with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as file:
            return file.read().strip()
    except OSError:
        return "?"
