"""The disk cache: what was fetched once stays on this machine, within limits, shared by all processes of a user.

It keeps pieces of *things*: immutable bytes of known size, each under a key that stands for exactly those bytes. What
a key means, and whether fetched bytes are right, is for whoever fetches them to know; that what is read is what was
written is the cache's to prove, at every read. Nothing in it is needed: whatever goes wrong here makes reads slower,
never wrong.
"""

from .disk import Cache
from .held import Held
from .ledger import CacheInfo

__all__ = ["Cache", "CacheInfo", "Held"]
