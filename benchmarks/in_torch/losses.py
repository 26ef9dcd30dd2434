"""SimCLR's NT-Xent and the alignment loss."""

import torch
from torch import Tensor
from torch.nn import functional


def nt_xent(z1: Tensor, z2: Tensor, *, temperature: float) -> Tensor:
    """Mean [] over the 2n rows of two views [n d] each."""
    n = len(z1)
    u = functional.normalize(torch.cat([z1, z2]), dim=1)
    logits = u @ u.T / temperature
    logits.fill_diagonal_(-torch.inf)
    partner = torch.arange(2 * n, device=u.device).roll(n)
    return functional.cross_entropy(logits, partner)


def alignment(prediction: Tensor, target: Tensor) -> Tensor:
    """Mean negative cosine [] of rows [m d]."""
    return -functional.cosine_similarity(prediction, target, dim=1).mean()
