"""Two processes that each see half of the data agree, and know what one process would."""

from pathlib import Path

import pytest
import torch
from torch import multiprocessing

from rangeseg.methods.confidence_bank import ConfidenceBank
from rangeseg.methods.prototypes import PrototypeHead
from rangeseg.system.distributed import all_reduce_sum

SEEN = torch.tensor([[[3.0, 0.0, 1.0], [4.0, 0.0, 2.0]], [[1.0, 0.0, 0.0], [4.0, 0.0, 0.0]]])


def make_pixels() -> tuple[torch.Tensor, torch.Tensor]:
    """Embedding (2,N,D) and labels (2,N): class 2 is in the second half, and 3 a single pixel."""
    g = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 2, (2, 40), generator=g)
    labels[1, :10] = 2
    labels[0, 0] = 3
    return torch.randn(2, 40, 6, generator=g), labels


def learn(seen: torch.Tensor, pixels: torch.Tensor, labels: torch.Tensor, seed: int) -> dict:
    bank = ConfidenceBank(3, momentum=0.5)
    bank.update(seen)
    new, old = (PrototypeHead(5, 2, 6, momentum=0.9) for _ in range(2))
    new.initialise(pixels, labels, torch.Generator().manual_seed(seed))
    old.prototypes.copy_(torch.randn(5, 2, 6, generator=torch.Generator().manual_seed(5)))
    old.seen.fill_(True)
    old.update(pixels, labels)
    modules = torch.nn.ModuleDict({"bank": bank, "new": new, "old": old})
    return modules.state_dict()


def process(rank: int, folder: str) -> None:
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2
    )
    pixels, labels = make_pixels()
    torch.save(learn(SEEN[rank], pixels[rank], labels[rank], seed=rank), f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


def test_one_process_sums_nothing() -> None:
    tensor = torch.arange(3.0)
    assert all_reduce_sum(tensor) is tensor
    assert tensor.tolist() == [0.0, 1.0, 2.0]


@pytest.mark.slow
@pytest.mark.skipif(not torch.distributed.is_available(), reason="PyTorch without distributed")
def test_two_processes_learn_what_one_would(tmp_path: Path) -> None:
    multiprocessing.spawn(process, (str(tmp_path),), nprocs=2)
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    assert all(torch.equal(v, second[k]) for k, v in first.items())
    pixels, labels = make_pixels()
    alone = learn(SEEN.sum(0), pixels.flatten(0, 1), labels.flatten(), seed=0)
    for name in ("bank.confidence", "bank.updates", "old.prototypes", "new.seen"):
        torch.testing.assert_close(first[name], alone[name])
    assert first["new.seen"].tolist() == [True, True, True, True, False]
