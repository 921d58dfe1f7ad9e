"""The processes of one distillation, which torchrun started: who computes what, and how they end together.

Every process draws the same exercises and computes its share of a step's passes. Their gradients are added, so all of
them take the same step. The sums differ from those of one process by the rounding of float32. The first process alone
writes: checkpoints, the proxy, progress and the result.
"""

import hashlib
import os
import signal
import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.rendezvous import rendezvous
from torch.distributed.tensor import DTensor

from transfer.errors import UnavailableError, UsageError
from transfer.families.loading import reason_of

LONGEST_WAIT = timedelta(minutes=30)
"""Longest time in which a process waits for another: one may read a large target from a slower disk."""
TELLING = timedelta(seconds=5)
AGAIN = "run the same command with --resume to go on from the last checkpoint, if there is one"


@dataclass(frozen=True, slots=True)
class Processes:
    """The processes of one distillation; by default this one alone.

    Attributes:
        count: how many there are, ≥ 1.
        rank: number of this one, from 0.
        divided: layers are divided among them, see `transfer.distillation.divided_layers`.
    """

    count: int = 1
    rank: int = 0
    divided: bool = False

    @staticmethod
    def here(*, divide: bool = False) -> "Processes":
        """Return those that `joined` joined, or this one alone."""
        if not dist.is_initialized():
            return ALONE
        return Processes(dist.get_world_size(), dist.get_rank(), divide)

    @property
    def first(self) -> bool:
        """Whether this is the process that writes."""
        return self.rank == 0

    def share(self, passes: int) -> Iterator[tuple[int, int]]:
        """Yield the numbers of this process's passes, each with 1.

        All processes together bring in the weights of a divided layer, so all make the same number of passes: one
        that has a pass less repeats the first, which is yielded with 0 and counts for nothing.
        """
        yield from ((number, 1) for number in range(self.rank, passes, self.count))
        if self.divided and self.rank >= passes % self.count > 0:
            yield 0, 0

    def sum(self, numbers: torch.Tensor) -> torch.Tensor:
        """Return the sum of all processes' `numbers`, a CPU tensor that may be overwritten."""
        if self.count > 1:
            dist.all_reduce(numbers)
        return numbers

    def add_gradients(self, weights: Iterable[nn.Parameter]) -> None:
        """Add the other processes' gradients to those of `weights`; PyTorch has added those of divided layers."""
        whole = [weight for weight in weights if not isinstance(weight, DTensor)]
        if self.count == 1 or not whole:
            return
        # an expert that no token of this process reached has no gradient here
        found = self.sum(torch.tensor([weight.grad is not None for weight in whole], dtype=torch.int32))
        gradients = []
        for weight in (each for each, times in zip(whole, found.tolist(), strict=True) if times):
            weight.grad = torch.zeros_like(weight) if weight.grad is None else weight.grad
            gradients.append(dist.all_reduce(weight.grad, async_op=True))
        for gradient in gradients:
            gradient.wait()

    def require_same(self, what: str, value: object) -> None:
        """Refuse a process whose `value`, compared by its `repr`, is not that of the first.

        Raises:
            UsageError: names the process and `what`.
        """
        if self.count == 1:
            return
        own = torch.tensor(list(hashlib.sha256(repr(value).encode()).digest()))
        theirs = own.clone()
        dist.broadcast(theirs, src=0)
        if not torch.equal(own, theirs):
            raise UsageError(
                f"process {self.rank} of {self.count} has another {what} than process 0; give all of them the same "
                "files, checkpoints included, and the same options"
            )


ALONE = Processes()


@contextmanager
def joined() -> Iterator[None]:
    """Within the block, this process is one of those that torchrun started, and all but the first are silent.

    The first to fail tells why. Every other process then ends without a word.

    Raises:
        UnavailableError: this process lost the others, or ran out of memory.
    """
    store, rank, count = next(rendezvous("env://", timeout=LONGEST_WAIT))
    dist.init_process_group(store=store, rank=rank, world_size=count, timeout=LONGEST_WAIT)
    before = signal.signal(signal.SIGTERM, _told_to_end)
    try:
        if torch.cuda.is_available():
            torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        with _silent(when=rank > 0):
            yield
    except BaseException as error:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the error is told first; this process ends anyway
        if not _is_first_to_tell(store):
            sys.exit(UnavailableError.exit_status)
        if isinstance(error, RuntimeError):
            raise UnavailableError(f"process {rank} of {count}: {reason_of(error)}; {AGAIN}") from error
        raise
    else:
        signal.signal(signal.SIGTERM, before)
    finally:
        dist.destroy_process_group()


def _told_to_end(_number: int, _frame: object) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise UnavailableError(
        f"process {os.environ['RANK']} was told to end, as when another has failed; {AGAIN}"
    )


def _is_first_to_tell(store: Any) -> bool:
    try:
        store.set_timeout(TELLING)
        return int(store.add("told", 1)) == 1
    except RuntimeError:  # torchrun has gone, and its store with it
        return True


@contextmanager
def _silent(*, when: bool) -> Iterator[None]:
    """Within the block, this process writes neither to stdout nor to stderr."""
    with ExitStack() as silent:
        if when:
            nowhere = silent.enter_context(Path(os.devnull).open("w", encoding="utf-8"))
            silent.enter_context(redirect_stdout(nowhere))
            silent.enter_context(redirect_stderr(nowhere))
        yield
