"""The kernel's FUSE protocol as data: opcodes, flags and structures of <linux/fuse.h>, versions 7.31 to 7.45.

Owns numbers and layouts only. Little- or big-endian as the machine is; all structures are aligned to 8 bytes by hand.
"""

from __future__ import annotations

import struct
from enum import IntEnum

MAJOR = 7
OLDEST_MINOR = 31
NEWEST_MINOR = 45


class Opcode(IntEnum):
    """What the kernel can ask."""

    LOOKUP = 1
    FORGET = 2
    GETATTR = 3
    SETATTR = 4
    READLINK = 5
    SYMLINK = 6
    MKNOD = 8
    MKDIR = 9
    UNLINK = 10
    RMDIR = 11
    RENAME = 12
    LINK = 13
    OPEN = 14
    READ = 15
    WRITE = 16
    STATFS = 17
    RELEASE = 18
    FSYNC = 20
    SETXATTR = 21
    GETXATTR = 22
    LISTXATTR = 23
    REMOVEXATTR = 24
    FLUSH = 25
    INIT = 26
    OPENDIR = 27
    READDIR = 28
    RELEASEDIR = 29
    FSYNCDIR = 30
    GETLK = 31
    SETLK = 32
    SETLKW = 33
    ACCESS = 34
    CREATE = 35
    INTERRUPT = 36
    BMAP = 37
    DESTROY = 38
    IOCTL = 39
    POLL = 40
    NOTIFY_REPLY = 41
    BATCH_FORGET = 42
    FALLOCATE = 43
    READDIRPLUS = 44
    RENAME2 = 45
    LSEEK = 46
    COPY_FILE_RANGE = 47
    SETUPMAPPING = 48
    REMOVEMAPPING = 49
    SYNCFS = 50
    TMPFILE = 51
    STATX = 52


UNANSWERED = frozenset({Opcode.FORGET, Opcode.BATCH_FORGET, Opcode.INTERRUPT})
"""Requests to which the kernel takes no answer."""

REQUEST_SIZE = 1 << 17
"""Bytes of the buffer that a request is read into."""

# INIT flags: bits 0..31 in `flags`, 32..63 in `flags2`.
ASYNC_READ = 1 << 0
EXPORT_SUPPORT = 1 << 4
AUTO_INVAL_DATA = 1 << 12
DO_READDIRPLUS = 1 << 13
NO_OPEN_SUPPORT = 1 << 17
PARALLEL_DIROPS = 1 << 18
MAX_PAGES = 1 << 22
CACHE_SYMLINKS = 1 << 23
NO_OPENDIR_SUPPORT = 1 << 24
INIT_EXT = 1 << 30
PASSTHROUGH = 1 << 37
HAS_RESEND = 1 << 39

# Flags of an open file
FOPEN_KEEP_CACHE = 1 << 1
FOPEN_PASSTHROUGH = 1 << 7

# In the `unique` of a request that is sent again after FUSE_NOTIFY_RESEND
RESENT = 1 << 63
NOTIFY_RESEND = 7

# ioctls on the device
CLONE = 0x8004E500  # _IOR(229, 0, uint32_t)
DEVICE_ID = struct.Struct("=I")
BACKING_OPEN = 0x4010E501  # _IOW(229, 1, struct fuse_backing_map)
BACKING_CLOSE = 0x4004E502  # _IOW(229, 2, uint32_t)

# ioctls on a file that ask for its flags: FS_IOC_GETFLAGS, FS_IOC_GETVERSION (in either width), FS_IOC_FSGETXATTR
FLAG_IOCTLS = frozenset({0x80086601, 0x80046601, 0x80087601, 0x80047601, 0x801C581F})
FSXATTR_SIZE = 28

# len opcode unique nodeid uid gid pid extension padding
IN_HEADER = struct.Struct("=IIQQIIIHH")
# len error unique
OUT_HEADER = struct.Struct("=IiQ")

# major minor max_readahead flags (flags2 and the rest follow from 7.36 on)
INIT_IN = struct.Struct("=IIII")
INIT_IN_FLAGS2 = struct.Struct("=I")
# major minor max_readahead flags, max_background congestion_threshold, max_write time_gran, max_pages map_alignment,
# flags2 max_stack_depth, request_timeout and unused
INIT_OUT = struct.Struct("=IIIIHHIIHHII24x")
# nodeid generation entry_valid attr_valid and their nanoseconds, then the attributes
ENTRY_OUT = struct.Struct("=QQQQII")
# ino size blocks atime mtime ctime, their nanoseconds, mode nlink uid gid rdev blksize flags
ATTR = struct.Struct("=QQQQQQIIIIIIIIII")
ENTRY_SIZE = ENTRY_OUT.size + ATTR.size
# ENTRY_OUT and ATTR at once
ENTRY_AND_ATTR = struct.Struct("=QQQQIIQQQQQQIIIIIIIIII")
# attr_valid, its nanoseconds, padding, then the attributes
ATTR_OUT = struct.Struct("=QIIQQQQQQIIIIIIIIII")
# ino off namelen type, then the name, padded to 8 bytes
DIRENT = struct.Struct("=QQII")
# ENTRY_OUT after its nodeid, and ATTR after ino, size and blocks: what neighbours in a directory have in common
ENTRY_TAIL = struct.Struct("=QQQII")
ATTR_TAIL = struct.Struct("=QQQIIIIIIIIII")


def direntplus(length: int) -> struct.Struct:
    """A name of a listing with its attributes, for names of `length` bytes.

    nodeid, ENTRY_TAIL, ino size blocks, ATTR_TAIL, ino off namelen type, and the name, padded to 8 bytes.
    """
    return struct.Struct(f"=Q{ENTRY_TAIL.size}sQQQ{ATTR_TAIL.size}sQQII{length + -length % 8}s")


# getattr_flags reserved fh sx_flags sx_mask
STATX_IN = struct.Struct("=IIQII")
# attr_valid, its nanoseconds, flags, spare; then mask blksize attributes nlink uid gid mode, ino size blocks
# attributes_mask, four times (atime btime ctime mtime) of seconds nanoseconds, rdev and dev, spare
STATX_OUT = struct.Struct("=QII16xIIQIIIHxxQQQQqI4xqI4xqI4xqI4xIIII112x")
# flags open_flags
OPEN_IN = struct.Struct("=II")
# fh open_flags backing_id
OPEN_OUT = struct.Struct("=QIi")
# fh offset size read_flags (lock_owner flags padding follow)
READ_IN = struct.Struct("=QQII")
# unique of the request that was interrupted
INTERRUPT_IN = struct.Struct("=Q")
# fh (flags release_flags lock_owner follow)
RELEASE_IN = struct.Struct("=Q")
# size padding, then the name for GETXATTR
GETXATTR_IN = struct.Struct("=II")
GETXATTR_OUT = struct.Struct("=II")
# fh flags cmd arg in_size out_size
IOCTL_IN = struct.Struct("=QIIQII")
# result flags in_iovs out_iovs, then what the caller gets
IOCTL_OUT = struct.Struct("=iIII")
# mask padding
ACCESS_IN = struct.Struct("=II")
# fh offset whence padding
LSEEK_IN = struct.Struct("=QQII")
LSEEK_OUT = struct.Struct("=Q")
# blocks bfree bavail files ffree bsize namelen frsize padding spare
STATFS_OUT = struct.Struct("=QQQQQIIII24x")
# fd flags padding
BACKING_MAP = struct.Struct("=iIQ")
BACKING_ID = struct.Struct("=I")
