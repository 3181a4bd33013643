"""Several processes that work together: how they start, agree, share the work and end."""

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

if TYPE_CHECKING:  # an exported network predicts, and shares its scans with nobody, without torch
    import torch
    from torch import Tensor, nn

T = TypeVar("T")


@contextmanager
def joined(device_name: str, go_on: str) -> Iterator[torch.device]:
    """Work together with the processes that torchrun started; without it, alone.

    Args:
        device_name: ``auto``, ``cpu``, ``cuda`` or, alone, ``cuda:N``. Each process takes the GPU
            of its own number.
        go_on: what to do once another process has ended.

    Yields:
        The device of this process.

    Raises:
        ConfigError: no such device.
        LostProcessError: another process ended before its time, or all were told to by SIGTERM,
            which is also how torchrun ends those that are left.
    """
    import torch

    from rangeseg.system.device import choose_device

    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        device = choose_device(device_name)
        if device.type == "cuda" and device.index is not None:
            torch.cuda.set_device(device)  # else the pinning thread opens the first one too
        yield device
        return
    from torch.distributed.rendezvous import rendezvous

    store, own_rank, size = next(rendezvous("env://"))
    end_with_parent()
    try:
        device = _own_device(device_name)
        # What the hosts agree on goes through gloo: no GPU is waited for.
        backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
        torch.distributed.init_process_group(backend, store=store, rank=own_rank, world_size=size)
        yield device
    except (Exception, Terminated) as error:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # torchrun's must not cut the line short
        spoken_for, lost = not _is_first_to_fail(store), _is_of_another(error)
        if not (spoken_for or lost):
            raise
        raise LostProcessError(f"{lost}: what was saved stands; {go_on}", spoken_for) from error
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
    """What became of another process, if that is the reason; else nothing."""
    import torch

    if isinstance(error, Terminated):
        return "another process of this run has ended, or SIGTERM told all of them to"
    if isinstance(error, torch.distributed.DistError) or (
        isinstance(error, RuntimeError) and "gloo" in str(error)
    ):
        return "another process of this run has ended, or its machine cannot be reached"
    return ""


def _is_first_to_fail(store: Any) -> bool:
    """Whether no other process has failed yet: the first one says why, for all of them.

    Where the store went with another machine or with torchrun, it is the first of each machine.
    """
    try:
        return int(store.add("rangeseg/failed", 1)) == 1
    except RuntimeError:
        return os.environ["LOCAL_RANK"] == "0"


_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None
_PR_SET_PDEATHSIG = 1


def end_with_parent() -> None:
    """Be told to save and to end even when the parent is killed with SIGKILL; on Linux."""
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def world_size() -> int:
    """How many processes train together."""
    torch = sys.modules.get("torch")  # without it they cannot have found each other
    if torch is None:
        return 1
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return int(torch.distributed.get_world_size())
    return 1


def rank() -> int:
    """The number of this process among those that work together; 0 speaks and writes files."""
    if world_size() == 1:
        return 0
    import torch

    return torch.distributed.get_rank()


def shard(items: list[T]) -> list[T]:
    """Every n-th of them for this process; each item goes to exactly one of the n."""
    return items[rank() :: world_size()]


def on_rank_zero(work: Callable[[], T]) -> T:
    """What the first process makes, for all of them; the others wait for it."""
    if world_size() == 1:
        return work()
    import torch

    made: list[Any] = [work() if rank() == 0 else None]
    torch.distributed.broadcast_object_list(made)
    result: T = made[0]
    return result


def gather(own: T) -> list[T]:
    """What every process has, in their order."""
    if world_size() == 1:
        return [own]
    import torch

    everyone: list[Any] = [None] * world_size()
    torch.distributed.all_gather_object(everyone, own)
    return everyone


def all_reduce_max(*values: int) -> list[int]:
    """The largest of each value over all processes."""
    if world_size() == 1:
        return list(values)
    import torch

    largest = torch.tensor(values)
    torch.distributed.all_reduce(largest, torch.distributed.ReduceOp.MAX)
    return largest.tolist()


def all_reduce_sum(tensor: Tensor) -> Tensor:
    """The sum over all processes, in place; the tensor itself where there is only one."""
    if world_size() > 1:
        import torch

        torch.distributed.all_reduce(tensor)
    return tensor


def shared_divisor(own: Tensor) -> Tensor:
    """What a process's sum is divided by, so that the mean over processes is that of all pixels.

    The wrapper of several processes averages their gradients. A mean over the pixels of each would
    let a pixel count more where few are valid; divided by the mean number of pixels, each counts
    alike, as in one process that has all scans.

    Args:
        own: number, or sum of weights, of the pixels of this process; no gradient passes.

    Returns:
        Its mean over the processes; the tensor itself where there is only one.
    """
    if world_size() == 1:
        return own
    import torch

    return all_reduce_sum(own.detach().to(torch.float64)).to(own.dtype) / world_size()


def check_batch_size(batch_size: int) -> None:
    """Check that the scans of a step can be shared among the processes.

    Raises:
        ConfigError: they cannot.
    """
    processes = world_size()
    if batch_size % processes or batch_size // processes < 2:
        raise ConfigError(
            f"train.batch_size={batch_size} is what all {processes} processes together take in a "
            f"step: make it a multiple of {processes}, and at least {2 * processes}, so that each "
            "scan has one to be mixed with"
        )


def wrap_ddp(method: nn.Module) -> nn.Module:
    """A method whose backward averages the gradients of all processes.

    Buffers are left alone: methods sum what they keep in them over all processes.
    """
    if world_size() == 1:
        return method
    from torch import nn

    # A hint on speed that comes from 1x1 kernels, whose strides can be written in two ways.
    warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")
    with warnings.catch_warnings():  # of another name that older releases do not know
        warnings.simplefilter("ignore", FutureWarning)
        return nn.parallel.DistributedDataParallel(method, broadcast_buffers=False)


def averaging(model: nn.Module, now: bool) -> AbstractContextManager[None]:
    """The context of a forward and its backward, one of several before a step.

    Args:
        model: what ``wrap_ddp`` returned.
        now: whether the gradients of all processes, and those kept before, are averaged; else
            they are kept, and nothing is sent.
    """
    from torch import nn

    if now or not isinstance(model, nn.parallel.DistributedDataParallel):
        return nullcontext()
    return model.no_sync()
