"""The device in its keeper's hands: takes back what the dead had in hand, and tells errors where nobody serves."""

from __future__ import annotations

import errno
import os
import select

from ..fuse.memory import CRASH, DEADLY, Memory
from ..fuse.protocol import HAS_RESEND, IN_HEADER, NOTIFY_RESEND, OUT_HEADER, REQUEST_SIZE, UNANSWERED, Opcode
from .logfile import log


class Device:
    """/dev/fuse of one mount, in its keeper's hands. `is_failing` tells that whoever asks is answered EIO."""

    def __init__(self, descriptor: int, memory: Memory, poll: select.poll) -> None:
        self.descriptor = descriptor
        self.is_failing = False
        self._memory = memory
        self._poll = poll

    def take_back(self, slot: int, *, crashed: bool) -> None:
        """Take back what a dead worker had in hand, and empty its slot."""
        self._accuse(slot, CRASH if crashed else 1)
        self._memory.leave(slot)
        self.resend()

    def _accuse(self, slot: int, guilt: int) -> None:
        """Count a death for the requests that a worker had in hand; those of too many deaths are answered EIO.

        Requests that wait for the store are to blame only when there are no others.
        """
        requests = self._memory.in_hand(slot)
        self._memory.accuse(slot, guilt, waiting=all(request.waiting for request in requests))
        for request in requests:
            if self._memory.guilt(request.unique) >= DEADLY:
                log(f"request {request.opcode} was in hand whenever workers died; it is answered EIO")
                self._answer(request.unique, -errno.EIO)

    def resend(self) -> None:
        """Make the kernel send again what a dead worker took and did not answer."""
        agreement = self._memory.agreement()
        if agreement is None or not agreement.flags & HAS_RESEND:
            return
        try:
            os.write(self.descriptor, OUT_HEADER.pack(OUT_HEADER.size, NOTIFY_RESEND, 0))
            self._memory.count_resend()
        except OSError as error:
            if error.errno != errno.ENODEV:
                log(f"the kernel would not resend; {error.strerror}")

    def fail_requests(self, failing: bool) -> None:
        """Begin, or stop, to answer EIO to whoever asks: without a worker in sight a reader is to hear so, not to hang.

        The device is not to block us, as a request may be taken back between the poll and the read; nor to return at
        once to a worker, and so this stops before one starts.
        """
        if failing == self.is_failing:
            return
        self.is_failing = failing
        os.set_blocking(self.descriptor, not failing)
        if failing:
            self._poll.register(self.descriptor, select.POLLIN)
        else:
            self._poll.unregister(self.descriptor)

    def fail_request(self) -> bool:
        """Answer one request so; False when the mount is gone."""
        try:
            request = os.read(self.descriptor, REQUEST_SIZE)
        except OSError as error:
            return error.errno in (errno.EINTR, errno.EAGAIN, errno.ENOENT)
        _, opcode, unique, *_ = IN_HEADER.unpack_from(request)
        if opcode not in UNANSWERED:
            self._answer(unique, 0 if opcode == Opcode.DESTROY else -errno.EIO)
        return True

    def _answer(self, unique: int, code: int) -> None:
        try:
            os.write(self.descriptor, OUT_HEADER.pack(OUT_HEADER.size, code, unique))
        except OSError:
            pass  # nobody waits for it any more
