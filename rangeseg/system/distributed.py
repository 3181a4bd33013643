"""Joined processes: start, agreement, sharing of work, and end."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, TypeVar

from rangeseg.errors import ConfigError, LostProcessError
from rangeseg.system.process import Terminated

if TYPE_CHECKING:  # an exported network predicts in one process, without torch
    import torch
    from torch import Tensor, nn

T = TypeVar("T")


@contextmanager
def joined(device_name: str, go_on: str) -> Iterator[torch.device]:
    """Join the processes that torchrun started; without torchrun work alone.

    Args:
        device_name: ``auto``, ``cpu``, ``cuda`` or, for a single process, ``cuda:N``. Each process
            takes the GPU of its number.
        go_on: remedy after another process has ended.

    Yields:
        The device of this process.

    Raises:
        ConfigError: no such device.
        LostProcessError: another process ended early, or all got SIGTERM, which torchrun also sends
            to the remaining ones.
    """
    import torch

    from rangeseg.system.device import choose_device

    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        device = choose_device(device_name)
        if device.type == "cuda" and device.index is not None:
            torch.cuda.set_device(device)  # otherwise the pinning thread also opens the first one
        yield device
        return
    from torch.distributed.rendezvous import rendezvous

    store, own_rank, size = next(rendezvous("env://"))
    end_with_parent()
    try:
        device = _own_device(device_name)
        # Agreements of hosts use gloo, which waits for no GPU.
        backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
        torch.distributed.init_process_group(backend, store=store, rank=own_rank, world_size=size)
        yield device
    except (Exception, Terminated) as error:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # torchrun's must not cut the line
        spoken_for, lost = not _is_first_to_fail(store), _is_of_another(error)
        if not (spoken_for or lost):
            raise
        raise LostProcessError(f"{lost}: saved work is kept; {go_on}", spoken_for) from error
    torch.distributed.destroy_process_group()


def _own_device(device_name: str) -> torch.device:
    import torch

    from rangeseg.system.device import choose_device

    device = choose_device(device_name)
    if device.type == "cuda":
        if device.index is not None:
            raise ConfigError(f"--device {device_name} is one GPU for all processes: write cuda")
        device = choose_device(f"cuda:{os.environ['LOCAL_RANK']}")
        torch.cuda.set_device(device)
    return device


def _is_of_another(error: BaseException) -> str:
    """The fate of another process, if it caused an error; else an empty text."""
    import torch

    if isinstance(error, Terminated):
        return "another process of this run has ended, or SIGTERM ended all of them"
    if isinstance(error, torch.distributed.DistError) or (
        isinstance(error, RuntimeError) and "gloo" in str(error)
    ):
        return "another process of this run has ended, or its machine cannot be reached"
    return ""


def _is_first_to_fail(store: Any) -> bool:
    """Whether no other process has failed yet: only the first reports the reason.

    If the store is lost with a machine or torchrun, it is the first of each machine.
    """
    try:
        return int(store.add("rangeseg/failed", 1)) == 1
    except RuntimeError:
        return os.environ["LOCAL_RANK"] == "0"


_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None
_PR_SET_PDEATHSIG = 1


def end_with_parent() -> None:
    """Get SIGTERM, to save and end, even if the parent is killed with SIGKILL (Linux)."""
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def world_size() -> int:
    """Number of joined processes."""
    torch = sys.modules.get("torch")  # without it no processes are joined
    if torch is None:
        return 1
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return int(torch.distributed.get_world_size())
    return 1


def rank() -> int:
    """The number of this process among the joined ones; 0 prints and writes files."""
    if world_size() == 1:
        return 0
    import torch

    return torch.distributed.get_rank()


def shard(items: list[T]) -> list[T]:
    """Every n-th item for this process; each item goes to exactly one of the n."""
    return items[rank() :: world_size()]


def on_rank_zero(work: Callable[[], T]) -> T:
    """Run a function in the first process; all get the result."""
    if world_size() == 1:
        return work()
    import torch

    made: list[Any] = [work() if rank() == 0 else None]
    torch.distributed.broadcast_object_list(made)
    result: T = made[0]
    return result


def gather(own: T) -> list[T]:
    """Gather a value of every process, in order."""
    if world_size() == 1:
        return [own]
    import torch

    everyone: list[Any] = [None] * world_size()
    torch.distributed.all_gather_object(everyone, own)
    return everyone


def all_reduce_max(*values: int) -> list[int]:
    """The maximum of each value over all processes."""
    if world_size() == 1:
        return list(values)
    import torch

    largest = torch.tensor(values)
    torch.distributed.all_reduce(largest, torch.distributed.ReduceOp.MAX)
    return largest.tolist()


def all_reduce_sum(tensor: Tensor) -> Tensor:
    """Sum over all processes, in place; the tensor itself with one process."""
    if world_size() > 1:
        import torch

        torch.distributed.all_reduce(tensor)
    return tensor


def shared_divisor(own: Tensor) -> Tensor:
    """The divisor of a process's sum that makes the mean over processes that of all pixels.

    DDP averages the gradients of processes. A mean per process would overweight pixels where few
    are valid. Divided by the mean number of pixels, each counts alike, as in one process with all
    scans.

    Args:
        own: number, or sum of weights, of this process's pixels; without gradient.

    Returns:
        Its mean over the processes; the tensor itself with one process.
    """
    if world_size() == 1:
        return own
    import torch

    return all_reduce_sum(own.detach().to(torch.float64)).to(own.dtype) / world_size()


def check_batch_size(batch_size: int) -> None:
    """Check that processes can share the scans of a step.

    Raises:
        ConfigError: they cannot.
    """
    processes = world_size()
    if batch_size % processes or batch_size // processes < 2:
        raise ConfigError(
            f"train.batch_size={batch_size} is the total of {processes} processes: make it a "
            f"multiple of {processes}, and at least {2 * processes}, as scans are mixed in pairs"
        )


def wrap_ddp(method: nn.Module) -> nn.Module:
    """Wrap a method, so that its backward averages the gradients of all processes.

    Buffers are not synchronised: methods sum their contents over all processes.
    """
    if world_size() == 1:
        return method
    from torch import nn

    # A speed hint about 1x1 kernels, whose strides have two equal forms.
    warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")
    with warnings.catch_warnings():  # a newer name, unknown to older releases
        warnings.simplefilter("ignore", FutureWarning)
        return nn.parallel.DistributedDataParallel(method, broadcast_buffers=False)


def averaging(model: nn.Module, now: bool) -> AbstractContextManager[None]:
    """The context of one of several forwards and backwards before a step.

    Args:
        model: result of ``wrap_ddp``.
        now: average the gradients of all processes, with those kept before; else keep them without
            communication.
    """
    from torch import nn

    if now or not isinstance(model, nn.parallel.DistributedDataParallel):
        return nullcontext()
    return model.no_sync()
