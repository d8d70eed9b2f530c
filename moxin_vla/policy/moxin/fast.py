"""The model as it runs on a robot: static where the device rewards it, the same numbers."""

from collections import OrderedDict

import torch
from torch import Tensor

from moxin_vla.policy.moxin.decoding import predict
from moxin_vla.policy.moxin.model import ActionPrefix, MoxinVLA

_WARM_UP = 3  # runs before a capture, so that every library has chosen its kernels
_GRAPHS = 8  # prompt lengths kept; each costs the activations of one pass


class FastModel:
    """Runs `decoding.predict`; on a GPU as one CUDA graph per prompt length.

    A pass of the 7 B shapes launches some 1,700 kernels, which alone costs 9 to 14 ms of CPU time
    (shared facts on inference speed, 3.1); a graph launches them at once. Autoregressive and
    diffusion models, whose loops depend on their own output, run without.

    Args:
        model: In evaluation mode, on its device.
        graphs: False to run without CUDA graphs.
    """

    def __init__(self, model: MoxinVLA, graphs: bool = True) -> None:
        config = model.config
        one_pass = config.head != "diffusion" and config.decoding == "parallel"
        device = model.language_model.model.embed_tokens.weight.device
        self._model = model
        self._captures = graphs and one_pass and device.type == "cuda"
        self._graphs: OrderedDict[tuple, _Graph] = OrderedDict()

    def predict(
        self,
        pixel_values: Tensor,
        input_ids: Tensor,
        proprio: Tensor | None,
        prefix: ActionPrefix | None = None,
    ) -> Tensor:
        """Return a normalised chunk, shape (B, H, action_dim); see `decoding.predict`."""
        if not self._captures:
            return predict(self._model, pixel_values, input_ids, proprio, prefix)
        inputs = [pixel_values, input_ids]
        inputs += [] if proprio is None else [proprio]
        inputs += [] if prefix is None else [prefix.actions, prefix.steps]
        key = (tuple(tuple(t.shape) for t in inputs), proprio is None, prefix is None)
        if key not in self._graphs:
            self._graphs[key] = _Graph(self._model, inputs, proprio is not None)
            if len(self._graphs) > _GRAPHS:
                self._graphs.popitem(last=False)
        self._graphs.move_to_end(key)
        return self._graphs[key].replay(inputs)


class _Graph:
    """One captured pass with its own input and output memory."""

    def __init__(self, model: MoxinVLA, inputs: list[Tensor], has_proprio: bool) -> None:
        self._inputs = [tensor.clone() for tensor in inputs]
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(_WARM_UP):
                self._run(model, has_proprio)
        torch.cuda.current_stream().wait_stream(stream)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._output = self._run(model, has_proprio)

    def _run(self, model: MoxinVLA, has_proprio: bool) -> Tensor:
        pixels, ids, *rest = self._inputs
        proprio = rest.pop(0) if has_proprio else None
        prefix = ActionPrefix(*rest) if rest else None
        return predict(model, pixels, ids, proprio, prefix)

    def replay(self, inputs: list[Tensor]) -> Tensor:
        for own, given in zip(self._inputs, inputs, strict=True):
            own.copy_(given)
        self._graph.replay()
        return self._output.clone()
