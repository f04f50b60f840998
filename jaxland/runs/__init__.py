"""What must survive a kill: stopping between steps, files written whole or not at all, whose file it is."""

from jaxland.runs.checkpoint import Checkpoint
from jaxland.runs.files import (
    is_writer,
    pack_npz,
    read_npz,
    refuse,
    replacing,
    unpack_npz,
    whole,
    write_npz,
    write_table,
    write_whole,
)
from jaxland.runs.identity import agree, digest, identity, probes, sample
from jaxland.runs.stop import Stop, stoppable

__all__ = [
    "Checkpoint",
    "Stop",
    "agree",
    "digest",
    "identity",
    "is_writer",
    "pack_npz",
    "probes",
    "read_npz",
    "refuse",
    "replacing",
    "sample",
    "stoppable",
    "unpack_npz",
    "whole",
    "write_npz",
    "write_table",
    "write_whole",
]
