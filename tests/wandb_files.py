"""Reads back the file of an offline W&B run: records of protobuf in LevelDB's log format."""

import struct
from collections.abc import Iterator
from pathlib import Path

import wandb
from wandb.proto.wandb_internal_pb2 import Record

BLOCK = 32768
HEADER = 7
FULL, FIRST, MIDDLE, LAST = 1, 2, 3, 4


def read_run(folder: Path, name: str = "offline-run-*") -> list[Record]:
    """The records of the one offline run of that name below ``<folder>/wandb``."""
    # wandb's own process may still be writing after a run is finished
    wandb.teardown()
    (file,) = folder.glob(f"wandb/{name}/*.wandb")
    return [Record.FromString(data) for data in _records(file.read_bytes())]


def _records(data: bytes) -> Iterator[bytes]:
    place, whole = HEADER, b""  # the file begins with a header as long as a record's
    while place + HEADER <= len(data):
        if BLOCK - place % BLOCK < HEADER:
            place += BLOCK - place % BLOCK
            continue
        _, length, kind = struct.unpack_from("<IHB", data, place)
        whole += data[place + HEADER : place + HEADER + length]
        place += HEADER + length
        if kind in (FULL, LAST):
            yield whole
            whole = b""
