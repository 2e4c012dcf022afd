"""CUDA graphs: a GPU gets all kernels of a training step at once.

A step of BERT on 32 short sentences is about 1,000 small kernels. An H200 computes them in 5 ms, but its CPU takes ten
times as long to launch them one by one.
"""

import gc
from collections.abc import Callable

import torch
from torch import Tensor

Figures = tuple[Tensor, ...]


class Recorded:
    """A function of tensors that runs on a GPU as a CUDA graph, which is recorded once for each shape of its arguments.

    The function must launch the same kernels whenever the shapes are the same, and must not wait for the GPU. Whatever
    else it reads or writes must stay where it is in the GPU's memory. Random numbers continue as without a graph.
    """

    def __init__(self, function: Callable[..., Figures], device: torch.device) -> None:
        gc.collect()  # an earlier training's graphs: if a graph is freed during a recording, the recording fails
        self._function = function
        self._device = device
        self._seen: set[tuple[torch.Size, ...]] = set()
        self.graphs: dict[tuple[torch.Size, ...], tuple[torch.cuda.CUDAGraph, list[Tensor], Figures]] = {}
        self._pool = torch.cuda.graph_pool_handle()  # for all: of a graph that has run, only the figures are needed

    def __call__(self, *arguments: Tensor) -> Figures:
        """Return the function's result for arguments on the CPU. The next call may overwrite it."""
        shapes = tuple(argument.shape for argument in arguments)
        if shapes not in self._seen:  # the first call loads the kernels, which cannot be recorded
            self._seen.add(shapes)
            return self._function(*(argument.to(self._device) for argument in arguments))
        if shapes not in self.graphs:
            self.graphs[shapes] = self._record([argument.to(self._device) for argument in arguments])
        graph, inputs, figures = self.graphs[shapes]
        for tensor, argument in zip(inputs, arguments, strict=True):
            tensor.copy_(argument)
        graph.replay()
        return figures

    def _record(self, inputs: list[Tensor]) -> tuple[torch.cuda.CUDAGraph, list[Tensor], Figures]:
        """Record a call, which computes nothing yet."""
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, self._pool):
            figures = self._function(*inputs)
        return graph, inputs, figures
