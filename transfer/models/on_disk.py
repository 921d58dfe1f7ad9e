"""The constant answers of a transfer over the vocabulary, which are too many for memory.

They are float16, and in a file, so that the system may drop any part of them. Free text of 2 000 answers of 16
tokens has 32 000 rows: at V = 128 256 that is 8.2 GB a constant. Class logits stay in memory, in float32.

Letters: N rows, V vocabulary.
"""

import shutil
import tempfile

import torch

from transfer.errors import UsageError


def on_disk(rows: int, columns: int) -> torch.Tensor:
    """Return zeros [rows, columns] of float16 in a nameless file, which is gone when the tensor is.

    Raises:
        UsageError: there is too little room for temporary files.
    """
    place, size = tempfile.gettempdir(), rows * columns * torch.float16.itemsize
    if size > (free := shutil.disk_usage(place).free):
        raise UsageError(
            f"{rows} answers over {columns} tokens take {size / 2**30:.1f} GiB, and {place} has {free / 2**30:.1f}: "
            "set TMPDIR to a larger directory, or take fewer public texts"
        )
    with tempfile.NamedTemporaryFile() as file:
        file.truncate(size)
        flat = torch.from_file(file.name, shared=True, size=rows * columns, dtype=torch.float16)
    return flat.view(rows, columns)
