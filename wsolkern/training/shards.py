"""The gradient of a batch as a sum over its shards in one fixed order, however many processes share them.

In: each shard's gradient, buffers and counts. Out: the batch's, the same bits on every process.
Source: none; floating-point sums depend on their order, so the order is part of the recipe here.

A batch is cut into ``shards`` parts, whose gradients are computed apart and added as ((g0 + g1) + g2) + ... Each of P
processes computes shards / P of them. So that none must hold all gradients, each process gets one P-th of every
gradient, adds that up, and hands the sum around: as many bytes as a ring's all-reduce moves. DistributedDataParallel
would overlap this with the backward pass, but adds in an order that depends on P, and takes the running statistics of
batch normalization from one process. Here they are means over the shards, and one way serves CPUs and GPUs.
"""

from typing import NamedTuple

import torch
import torch.distributed as dist
from torch import nn

from wsolkern.cams import Ranks

_COUNTER = "num_batches_tracked"  # of batch normalization


class Tally(NamedTuple):
    """What is known of some images."""

    num_images: float = 0.0
    loss: float = 0.0
    """Sum over the images."""
    num_correct: float = 0.0
    stop: float = 0.0
    """Whether a process was asked to stop."""


class ShardSum:
    """Adds up the shards of a batch.

    Args:
        network: Its parameters' gradients and its floating-point buffers are what is added; it is the same on every
            process.
        ranks: The processes.
        num_shards: Shards of a batch, a multiple of the number of processes.

    Raises:
        ValueError: It is no such multiple.
    """

    def __init__(self, network: nn.Module, ranks: Ranks, num_shards: int):
        if num_shards % ranks.num_ranks:
            raise ValueError(f"shards: expected a multiple of the {ranks.num_ranks} processes, found {num_shards}")
        self.num_mine = num_shards // ranks.num_ranks
        """Shards of this process; its first is the rank's multiple of this."""
        self._ranks = ranks
        self._parameters = [each for each in network.parameters() if each.requires_grad]
        self._buffers = [each for each in network.buffers() if each.is_floating_point()]
        self._counters = [each for name, each in network.named_buffers() if name.endswith(_COUNTER)]
        self._sizes = [each.numel() for each in (*self._parameters, *self._buffers)] + [len(Tally._fields)]
        device = self._parameters[0].device
        length = -(-sum(self._sizes) // ranks.num_ranks) * ranks.num_ranks  # every process adds up as much
        self._rows = torch.zeros((self.num_mine, length), device=device)
        on_gpu = device.type == "cuda" and ranks.num_ranks > 1
        self._group = dist.new_group(backend="nccl") if on_gpu else None

    def begin(self) -> None:
        """A batch begins; the buffers are those that all its shards start from."""
        self._rows.zero_()
        self._before = [each.clone() for each in (*self._buffers, *self._counters)]

    def add(self, shard: int, tally: Tally) -> None:
        """Takes what a shard left in the network: gradients of its mean loss, buffers; and puts the buffers back.

        Args:
            shard: Which of this process's, from 0; those never added count for nothing.
            tally: Of its images.
        """
        weight = tally.num_images
        gradients = [torch.zeros_like(each) if each.grad is None else each.grad for each in self._parameters]
        *parts, last = self._parts(self._rows[shard])
        for part, value in zip(parts, (*gradients, *self._buffers), strict=True):
            torch.mul(value.detach().flatten(), weight, out=part)
        last.copy_(torch.tensor(tally))
        self._restore()
        for each in self._parameters:
            each.grad = None

    def finish(self) -> Tally:
        """Leaves the batch's mean gradient and buffers in the network, and returns its tally."""
        total = self._reduce()
        *parts, last = self._parts(total)
        tally = Tally(*last.tolist())
        if tally.num_images:
            total /= tally.num_images
            for parameter, part in zip(self._parameters, parts, strict=False):
                parameter.grad = part.view_as(parameter)
            with torch.no_grad():
                for buffer, part in zip(self._buffers, parts[len(self._parameters) :], strict=True):
                    buffer.copy_(part.view_as(buffer))
                for counter in self._counters:
                    counter += 1
        return tally

    def _reduce(self) -> torch.Tensor:
        """The sum of all rows, in the order of the shards."""
        rows, num_ranks = self._rows, self._ranks.num_ranks
        if num_ranks == 1:
            return _sum(rows)
        length = rows.shape[1] // num_ranks
        given = rows.view(self.num_mine, num_ranks, length).transpose(0, 1).contiguous()  # [to rank, shard, part]
        rows = torch.empty_like(given)  # [from rank, shard, part]
        with self._ranks.together():
            dist.all_to_all_single(rows, given, group=self._group)
            total = _sum(rows.view(-1, length))
            parts = list(total.new_empty((num_ranks, len(total))))
            dist.all_gather(parts, total, group=self._group)
        return torch.cat(parts)

    def _parts(self, row: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """A row's views of each parameter, each buffer, and the tally."""
        return row[: sum(self._sizes)].split(self._sizes)

    @torch.no_grad()
    def _restore(self) -> None:
        for each, before in zip((*self._buffers, *self._counters), self._before, strict=True):
            each.copy_(before)


def _sum(rows: torch.Tensor) -> torch.Tensor:
    total = rows[0].clone()
    for row in rows[1:]:
        total += row
    return total
