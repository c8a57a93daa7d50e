"""Data parallelism: the same numbers as a single process, whatever the number of processes."""

from .layers import Shard, separate, share_dropout, statistics, synchronize
from .ranks import ALONE, Ranks, join
from .replicas import Replicas, replicate
from .sockets import PeerLost

__all__ = [
    "ALONE",
    "PeerLost",
    "Ranks",
    "Replicas",
    "Shard",
    "join",
    "replicate",
    "separate",
    "share_dropout",
    "statistics",
    "synchronize",
]
