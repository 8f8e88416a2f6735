"""A step of the decode loop as one CUDA graph: the host launches it once where it launched hundreds of kernels."""

from collections.abc import Callable, Hashable

import torch


class Graphs:
    """Captures steps by key and replays them; on the CPU it calls them.

    The first call of a key runs the step as it is, on a side stream, which also lets kernels compile and libraries make
    their plans. The second captures it and replays the capture, and so do all later ones. No step is run twice.

    A key must hold everything on the host that the step depends on; whatever else changes lies in buffers.

    Args:
        device: where the steps run.
        most: graphs to keep; with more keys than this, new ones run uncaptured.
    """

    def __init__(self, device: torch.device, most: int = 32):
        self.device, self.most = device, most
        self.warm: set[Hashable] = set()
        self.graphs: dict[Hashable, torch.cuda.CUDAGraph] = {}

    def run(self, key: Hashable, step: Callable[[], None]) -> None:
        if self.device.type != "cuda":
            step()
        elif key in self.graphs:
            self.graphs[key].replay()
        elif key in self.warm and len(self.graphs) < self.most:
            self.graphs[key] = self._capture(step)
            self.graphs[key].replay()
        else:
            self._run_aside(step)
            self.warm.add(key)

    def _run_aside(self, step: Callable[[], None]) -> None:
        side = torch.cuda.Stream(self.device)
        side.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(side):
            step()
        torch.cuda.current_stream(self.device).wait_stream(side)

    def _capture(self, step: Callable[[], None]) -> torch.cuda.CUDAGraph:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            step()
        return graph
