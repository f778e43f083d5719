"""R4F: heads that cannot stretch distances, by spectral normalization (Aghajanyan et al. 2020).

Each linear layer of a head works with W / sigma(W), sigma being the largest singular value, so
that the head's Lipschitz constant is at most 1 (tanh and dropout in evaluation add nothing).
fairseq normalises a head's last layer only, which bounds that layer but not the head.
sigma = u^T W v follows the weights by power iteration (Miyato et al. 2018, alg. 1). It is started
exactly, advanced once a step whatever a worker has to do in it, and kept in checkpoints, so that
neither the number of workers nor a resume changes a thing.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_VECTORS = ("u", "v")
#: Power iterations a step. With Miyato's one, sigma was up to 4 % too small at a learning rate of
#: 1e-4, with five 1 %; they cost 20 small products a head.
_ITERATIONS = 5


class SpectralLinear(nn.Linear):
    """y = x (W / sigma(W))^T + b; u and v are constants to the gradient: d sigma = u^T dW v."""

    def __init__(self, plain: nn.Linear) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features = plain.in_features, plain.out_features
        self.weight, self.bias = plain.weight, plain.bias
        weight = plain.weight.detach()
        # The largest singular vector, exactly, for a fraction of a whole decomposition's time.
        u = torch.linalg.eigh(weight @ weight.mT).eigenvectors[:, -1].clone()
        self.register_buffer("u", u)
        self.register_buffer("v", F.normalize(weight.mT @ u, dim=0))

    def forward(self, x: Tensor) -> Tensor:
        """(..., in) to (..., out)."""
        return F.linear(x, normalised(self.weight, self.u, self.v), self.bias)

    @torch.no_grad()
    def advance(self) -> None:
        """Let u and v follow the weights."""
        for _ in range(_ITERATIONS):
            self.v.copy_(F.normalize(self.weight.mT @ self.u, dim=0))
            self.u.copy_(F.normalize(self.weight @ self.v, dim=0))


def normalised(weight: Tensor, u: Tensor, v: Tensor) -> Tensor:
    """W / (u^T W v)."""
    return weight / (u @ weight @ v)


def normalise(head: nn.Module) -> None:
    """Put every linear layer of a head under spectral normalization, in place."""
    for name, layer in list(head.named_children()):
        if isinstance(layer, nn.Linear):
            setattr(head, name, SpectralLinear(layer))


def folded(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A head's state with the normalised weights as plain ones, and u and v gone."""
    out = {}
    for name, value in state.items():
        layer, _, leaf = name.rpartition(".")
        vectors = [state.get(f"{layer}.{vector}") for vector in _VECTORS]
        if leaf == "weight" and vectors[0] is not None:
            out[name] = normalised(value, *vectors)
        elif leaf not in _VECTORS:
            out[name] = value
    return out
