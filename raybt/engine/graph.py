"""A step of the decode loop as one CUDA graph: the host launches it once where it launched hundreds of kernels."""

from collections.abc import Callable
from contextlib import suppress
from functools import cache
from typing import NamedTuple

import torch

from raybt.engine.memory import is_out_of_memory
from raybt.errors import first_line


class Key(NamedTuple):
    """What the host decides of a step; steps of one key are one graph.

    Attributes:
        window: attended length.
        masked: whether the model gets masks.
        bank: which bank of vectors is read; 0 where none is.
        used, directed, resampling: as in `coefficients.Awake`.
        forcing, watching: as in `slots.Slots`.
    """

    window: int
    masked: bool
    bank: int
    used: frozenset[str]
    directed: frozenset[str]
    resampling: bool
    forcing: bool
    watching: bool


class Graphs:
    """Captures steps by key and replays them; on the CPU it calls them.

    The first call of a key runs the step as it is, on the stream on which it will be captured, which also lets kernels
    compile and libraries make their plans. The second captures it and replays the capture, and so do all later ones. No
    step is run twice.

    A key must hold everything on the host that the step depends on; whatever else changes lies in buffers.

    Args:
        device: where the steps run.
        captures: False calls every step.
        told: called with a note where a capture fails; this step and all later ones are then called.
        most: graphs to keep; with more keys than this, new ones run uncaptured.
    """

    def __init__(
        self,
        device: torch.device,
        captures: bool = True,
        told: Callable[[str], None] = lambda note: None,
        most: int = 32,
    ):
        self.device, self.told, self.most = device, told, most
        self.captures = captures and device.type == "cuda"
        self.warm: set[Key] = set()
        self.graphs: dict[Key, torch.cuda.CUDAGraph] = {}
        if self.captures:
            self._make_ready()

    def run(self, key: Key, step: Callable[[], None]) -> None:
        if key in self.graphs:
            self.graphs[key].replay()
        elif not self.captures:
            step()
        elif key in self.warm and len(self.graphs) < self.most:
            self._capture_first(key, step)
        else:
            self._run_aside(step)
            self.warm.add(key)

    def _capture_first(self, key: Key, step: Callable[[], None]) -> None:
        """A capture runs nothing, so one that failed has changed nothing, and the step is still to be run."""
        try:
            self.graphs[key] = self._capture(step)
        except RuntimeError as error:
            cause = error.__context__ or error  # where a spoilt capture cannot be ended either, what spoilt it
            if is_out_of_memory(cause):
                raise cause from None
            self.captures = False
            self.told(f"a step could not be captured, and goes on uncaptured, more slowly: {first_line(cause, 200)}")
            step()
        else:
            self.graphs[key].replay()

    def keep(self, wanted: Callable[[Key], bool]) -> None:
        """Drop all graphs but those whose key is wanted: the others' keys will not come again."""
        self.warm = set(filter(wanted, self.warm))
        self.graphs = {key: graph for key, graph in self.graphs.items() if wanted(key)}

    def _make_ready(self) -> None:
        """One stream for all warm steps and captures, and one pool of memory for all graphs: none runs beside another.

        A stream or a pool of its own for each would hold as much memory as a step takes, each time.
        """
        self.stream = side_stream(self.device)
        self.pool = torch.cuda.graph_pool_handle()

    def _run_aside(self, step: Callable[[], None]) -> None:
        self.stream.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(self.stream):
            step()
        torch.cuda.current_stream(self.device).wait_stream(self.stream)

    def _capture(self, step: Callable[[], None]) -> torch.cuda.CUDAGraph:
        """Thread by thread: what another thread allocates or copies meanwhile neither breaks nor enters the capture."""
        graph, before = torch.cuda.CUDAGraph(), torch.cuda.current_stream(self.device)
        try:
            with torch.cuda.graph(graph, pool=self.pool, stream=self.stream, capture_error_mode="thread_local"):
                step()
        except BaseException:
            self._undo(before)
            raise
        return graph

    def _undo(self, before: torch.cuda.Stream) -> None:
        """torch (2.11) leaves its stream current and its allocator capturing where a spoilt capture cannot be ended;
        any later `empty_cache` would then fail. Where it was ended after all, the allocator says so by an error."""
        torch.cuda.set_stream(before)
        with suppress(RuntimeError, AttributeError):
            torch._C._cuda_endAllocateToPool(before.device_index, self.pool)
            torch._C._cuda_releasePool(before.device_index, self.pool)


@cache
def side_stream(device: torch.device) -> torch.cuda.Stream:
    """One for all decoders: cuBLAS keeps a workspace for each stream that it has seen."""
    return torch.cuda.Stream(device)
