"""The kernel's side of a mount: requests from /dev/fuse are read, answered from a Tree, and written back.

What an answer is, fuse/answers.py knows. Any failure in a handler becomes an errno and one log line.

Two modes. *passthrough* (root only): OPEN hands the kernel the blob's own file, which it then reads without asking.
*no-open*: ENOSYS to OPEN makes the kernel open files by itself, and READ names them by node; so also for root where no
file could be handed over, as all are small ones from afar. Directories are opened
without asking in both, and their listings kept by the kernel until the directory's time changes.
"""

from __future__ import annotations

import errno
import fcntl
import os
import threading
import time
from typing import Final

from ..digest import Buffer
from .errnos import Refusal, errno_of, is_ordinary
from .fuse import protocol
from .fuse.answers import BODY, Answer, Answers, Call, Log, unknown
from .fuse.heldblobs import MAX_READ
from .fuse.interrupts import Interrupts
from .fuse.memory import DEADLY, Agreement, Memory
from .fuse.memory import THREADS as MOST_THREADS
from .fuse.openfiles import OpenFiles
from .fuse.protocol import RESENT, Opcode
from .fuse.waits import watch_here
from .shown.owner import Owner
from .tree import Tree

THREADS: Final = 4
_FAREWELL: Final = 2.0
_BEAT: Final = 5.0
"""Seconds between two beats of a worker that has nothing to do."""
_HELD_UP: Final = 0.05
"""Seconds without an answer from any thread after which another one is started."""


_WANTED = (
    protocol.ASYNC_READ
    | protocol.AUTO_INVAL_DATA
    | protocol.DO_READDIRPLUS
    | protocol.PARALLEL_DIROPS
    | protocol.MAX_PAGES
    | protocol.CACHE_SYMLINKS
    | protocol.EXPORT_SUPPORT
    | protocol.NO_OPENDIR_SUPPORT
    | protocol.INIT_EXT
    | protocol.HAS_RESEND
)

_UNKNOWN: Final = (unknown, 0)


class Kernel:
    """Serves one mount from one process until it is unmounted.

    `passthrough` allows that mode where the kernel and the user's rights do. `source` is the store's location, `slot`
    the worker's place in the memory file. `ready` is set when INIT was answered (by this process or one before it),
    `refused` tells why it could not be.
    """

    def __init__(
        self,
        device: int,
        tree: Tree,
        memory: Memory,
        log: Log,
        *,
        passthrough: bool,
        owner: tuple[int, int] | Owner,
        source: str = "",
        slot: int = 0,
    ) -> None:
        self.ready = threading.Event()
        self.refused: str | None = None
        self._device = device
        self._tree = tree
        self._memory = memory
        self._slot = slot
        self._log = log
        self._may_pass = passthrough
        self._files = OpenFiles(device, memory)
        self._answers = Answers(tree, self._files, log, owner=owner, source=source)
        self._interrupts = Interrupts(memory, slot, self._interrupted)
        self._gone = threading.Event()
        self._idle: set[Call] = set()
        self._none_idle = threading.Event()
        self._answered = 0
        """Grows with answers; threads may overwrite each other's count, it only has to move."""
        self._handlers = {
            **self._answers.handlers(),
            Opcode.INIT: (self._init, protocol.INIT_IN.size),
            Opcode.INTERRUPT: (self._interrupt, protocol.INTERRUPT_IN.size),
        }
        agreement = memory.agreement()
        if agreement is not None:
            self._follow(agreement)
            self.ready.set()

    @property
    def mode(self) -> str:
        """`passthrough` or `no-open`, once ready."""
        return "passthrough" if self._answers.passing else "no-open"

    def serve(self) -> None:
        """Answer requests in several threads; returns when the mount is gone.

        When all of them are held up (a store that takes its time), more are started, so that others are served.
        """
        threading.Thread(target=self._interrupts.watch, name="interrupts", daemon=True).start()
        threads = [self._start_thread(0)]  # the others only after INIT, which may change the device that is read
        self.ready.wait()
        threads += [self._start_thread(number) for number in range(1, THREADS)]
        while not self._gone.is_set():
            self._memory.beat(self._slot)
            if not self._none_idle.wait(_BEAT):
                continue
            self._none_idle.clear()
            before = self._answered
            if self._gone.wait(_HELD_UP):
                break
            if not self._idle and self._answered == before and len(threads) < MOST_THREADS:
                threads.append(self._start_thread(len(threads)))
                self._none_idle.set()
        self._interrupts.close()
        deadline = time.monotonic() + _FAREWELL
        for thread in threads:  # one that still waits for the store is left behind
            thread.join(max(deadline - time.monotonic(), 0))

    def _start_thread(self, number: int) -> threading.Thread:
        call = Call(self._memory.flight(self._slot, number))
        thread = threading.Thread(target=self._serve, args=(call,), name="fuse-thread", daemon=True)
        thread.start()
        return thread

    def _serve(self, call: Call) -> None:
        buffers = [call.data]
        idle = self._idle
        unpack, begin, end = protocol.IN_HEADER.unpack_from, call.flight.begin, call.flight.end
        watch_here(call.flight, self._interrupts.began)
        while True:
            idle.add(call)
            try:
                length = os.readv(self._device, buffers)
            except OSError as error:
                if error.errno in (errno.EINTR, errno.ENOENT, errno.EAGAIN):
                    continue
                if error.errno == errno.ENOMEM:
                    self._log("no memory to read a request; trying again")
                    time.sleep(_HELD_UP)
                    continue
                if error.errno not in (errno.ENODEV, errno.ECONNABORTED):
                    self._log(f"reading /dev/fuse failed; {error.strerror}")
                length = 0
            if not length:
                for event in (self.ready, self._gone, self._none_idle):
                    event.set()
                return
            idle.discard(call)
            if not idle:
                self._none_idle.set()
            announced, opcode, unique, node, _, _, caller, _, _ = unpack(call.data)
            since = begin(unique, opcode, caller)
            call.unique, call.node = unique, node
            answer = self._answer(call, length, announced, opcode)
            if answer is not None and not self._write(answer) and opcode == Opcode.OPEN and len(answer) > 1:
                self._answers.unheard(answer[1], unique)
            end(since)
            self._answered += 1

    def answer(self, call: Call, length: int) -> list[Buffer] | None:
        """The answer to the request of `length` bytes in the call's buffer, as buffers to write; None for none."""
        announced, opcode, call.unique, call.node, *_ = protocol.IN_HEADER.unpack_from(call.data)
        return self._answer(call, length, announced, opcode)

    def _answer(self, call: Call, length: int, announced: int, opcode: int) -> list[Buffer] | None:
        if length < BODY:
            return None
        call.end = length
        try:
            handler, minimum = self._handlers.get(opcode, _UNKNOWN)
            if announced != length or length < BODY + minimum:
                raise Refusal(errno.EINVAL)
            if call.unique & RESENT and self._memory.guilt(call.unique) >= DEADLY:
                # The tree is not asked for its path, which may be what they died of.
                self._log(f"node {call.node:#x}: {_name(opcode)} answered EIO; workers die of it")
                raise Refusal(errno.EIO)
            body = handler(call)
            if body is None:
                return None
            return [protocol.OUT_HEADER.pack(protocol.OUT_HEADER.size + len(body), 0, call.unique), body]
        except Refusal as refusal:
            code = refusal.code
        except Exception as error:
            code = self._failed(call, opcode, error)
        if opcode in protocol.UNANSWERED:
            return None
        return [_error(call.unique, code)]

    def _write(self, answer: list[Buffer]) -> bool:
        """Whether the kernel took the answer."""
        try:
            os.writev(self._device, answer)
        except OSError as error:
            # ENOENT: nobody waits any more, or the request comes again. ENODEV: the mount is gone, as the next read
            # will tell.
            if error.errno not in (errno.ENOENT, errno.ENODEV):
                self._log(f"the kernel refused an answer; {error.strerror}")
            return False
        return True

    def _interrupt(self, call: Call) -> Answer:
        self._interrupts.tell(protocol.INTERRUPT_IN.unpack_from(call.data, BODY)[0])
        return None

    def _interrupted(self, unique: int) -> bool:
        return self._files.answer_interrupted(unique, lambda: self._write([_error(unique, errno.EINTR)]))

    def _failed(self, call: Call, opcode: int, error: Exception) -> int:
        code = errno_of(error)
        if not is_ordinary(error) and not self._tree.reach.tells(error):
            what = str(error) if str(error) else type(error).__name__
            self._log(f"{self._path(call.node)}: {_name(opcode)} answered {errno.errorcode.get(code, code)}; {what}")
        return code

    def _path(self, node: int) -> str:
        try:
            return self._tree.path(node)
        except Exception:
            return f"node {node:#x}"

    # -- agreeing

    def _init(self, call: Call) -> Answer:
        major, minor, _, flags = protocol.INIT_IN.unpack_from(call.data, BODY)
        if major > protocol.MAJOR:  # the kernel asks again with ours
            return protocol.INIT_OUT.pack(protocol.MAJOR, *[0] * 11)
        if (major, minor) < (protocol.MAJOR, protocol.OLDEST_MINOR):
            self.refused = (
                f"this kernel speaks FUSE {major}.{minor}; "
                f"{protocol.MAJOR}.{protocol.OLDEST_MINOR} (Linux 5.4) or newer is needed"
            )
            self.ready.set()
            raise Refusal(errno.EPROTO)
        end = BODY + protocol.INIT_IN.size
        if flags & protocol.INIT_EXT and call.end >= end + protocol.INIT_IN_FLAGS2.size:
            flags |= protocol.INIT_IN_FLAGS2.unpack_from(call.data, end)[0] << 32
        agreed = flags & _WANTED
        passing = self._may_pass and bool(flags & protocol.PASSTHROUGH) and not self._is_better_open()
        agreed |= protocol.PASSTHROUGH if passing else flags & protocol.NO_OPEN_SUPPORT
        agreement = Agreement(min(minor, protocol.NEWEST_MINOR), agreed, passing)
        self._memory.agree(agreement)
        body = protocol.INIT_OUT.pack(
            protocol.MAJOR,
            agreement.minor,
            MAX_READ,
            agreed & 0xFFFFFFFF,
            64,
            48,
            4096,
            1,
            MAX_READ // 4096,
            0,
            agreed >> 32,
            1 if passing else 0,
        )
        self._write([protocol.OUT_HEADER.pack(protocol.OUT_HEADER.size + len(body), 0, call.unique), body])
        self._follow(agreement)
        self.ready.set()
        return None

    def _is_better_open(self) -> bool:
        """Whether no file of a store that is far could be passed through: then OPEN is a round trip for nothing."""
        return self._tree.is_far and self._tree.has_only_small()

    def _follow(self, agreement: Agreement) -> None:
        """Serve as it was agreed.

        Before Linux 6.9 nothing takes back the requests of a process that died, and their callers would wait for ever,
        as the keeper has the device open. A clone of the device is closed with its process, and they get an error.
        """
        self._answers.passing = agreement.passthrough
        if not agreement.flags & protocol.HAS_RESEND:
            try:
                clone = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
                fcntl.ioctl(clone, protocol.CLONE, protocol.DEVICE_ID.pack(self._device))
                self._device = clone
            except OSError as error:
                self._log(f"the device cannot be cloned, {error.strerror}; if this process dies, its readers hang")


def _name(opcode: int) -> str:
    return Opcode(opcode).name.lower() if opcode in set(Opcode) else f"request {opcode}"


def _error(unique: int, code: int) -> bytes:
    return protocol.OUT_HEADER.pack(protocol.OUT_HEADER.size, -code, unique)
