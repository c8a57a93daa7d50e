"""The processes of a run as one: the same numbers as a single process would have, whatever their number."""

from .exchange import Exchange, exchange
from .layers import Shard, separate, share_dropout, statistics, synchronize
from .ranks import ALONE, Ranks, join
from .sockets import PeerLost

__all__ = [
    "ALONE",
    "Exchange",
    "PeerLost",
    "Ranks",
    "Shard",
    "exchange",
    "join",
    "separate",
    "share_dropout",
    "statistics",
    "synchronize",
]
