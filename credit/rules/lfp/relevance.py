"""Relevance rules: how the feedback of a layer's outputs is shared among the contributions that made them.

Source: layer-wise feedback propagation (paper 2), Eqs. 2-13 and A.13. Legend, for a layer z_j = sum_i z_ij with
contributions z_ij = w_ji a_i and the bias one more of them, with input 1:

    r_j    feedback of output j (positive: more of what it is)         s_j = sum_i |z_ij|, the layer's *size*
    z+, z- sums of the positive and of the negative contributions      r_ij the share of contribution z_ij

Every rule here gives the share in one form, ``r_ij = z_ij q_j + |z_ij| t_j``, so that a layer needs no more than its own map
and transpose: the feedback of its input is ``a (W^T q) + |a| (|W|^T t)``, and the update, which has |w| in place of w in the
numerator, is ``|W| (q a^T) + W (t |a|^T)``. ``t`` is None where a rule treats both signs alike. z+ and z- come from z and
s: z+ = (s + z) / 2, z- = (z - s) / 2.
"""

import torch
from torch import Tensor

from credit.rules.lfp.options import AlphaBetaOptions, EpsilonOptions, GammaOptions
from credit.rules.lfp.pieces import in_pieces

Shares = tuple[Tensor, Tensor | None]


class Relevance:
    """Base of all relevance rules.

    Attributes:
        needs_size: whether ``share`` reads the size s.
    """

    needs_size = False

    def share(self, r: Tensor, z: Tensor, size: Tensor | None, *, rectified: bool, own: bool) -> Shares:
        """Return (q, t) of feedback r at outputs z of size s, all of one shape.

        Args:
            r: the feedback, or any multiple of it.
            z: the layer's outputs.
            size: s, where ``needs_size``; may be overwritten.
            rectified: z is not below 0, and where it is 0 it may have been below, but there r is 0.
            own: r may be overwritten.
        """
        raise AssertionError

    def membrane(self, drive: Tensor, carried: Tensor, size: Tensor | None) -> Tensor | None:
        """Return what feedback is divided by at a spiking neuron; None where the rule has no form for it.

        Args:
            drive: the membrane potential before a reset, the sum of all contributions.
            carried: the past's contribution to it.
            size: sum of the absolute contributions of this step's input, where ``needs_size``.
        """
        return None


def stabilised(z: Tensor, epsilon: float, rectified: bool = False) -> Tensor:
    """Return ``z + sign(z) epsilon`` with sign(0) = +1, a new tensor."""
    if rectified:
        return z + epsilon
    # As tensors: of two numbers, where() would make single precision.
    return torch.where(z < 0, z.new_full((), -epsilon), z.new_full((), epsilon)).add_(z)


def _over(r: Tensor, by: Tensor, own: bool) -> Tensor:
    return r.div_(by) if own else r / by


class Zero(Relevance):
    """LFP-0 (Eqs. 2-4): ``r_ij = z_ij / z_j r_j``. Unstable where z_j is near 0; exactly 0 gives no feedback."""

    def share(self, r: Tensor, z: Tensor, size: Tensor | None, *, rectified: bool, own: bool) -> Shares:
        return _over(r, torch.where(z == 0, torch.inf, z), own), None

    def membrane(self, drive: Tensor, carried: Tensor, size: Tensor | None) -> Tensor | None:
        return torch.where(drive == 0, torch.inf, drive.abs())


class Epsilon(EpsilonOptions, Relevance):
    """LFP-epsilon (Eqs. 8, 9): ``r_ij = z_ij / (z_j + sign(z_j) epsilon) r_j``, sign(0) = +1."""

    def share(self, r: Tensor, z: Tensor, size: Tensor | None, *, rectified: bool, own: bool) -> Shares:
        if not own:
            return r / stabilised(z, self.epsilon, rectified), None
        for piece, part in in_pieces(r, z):
            piece.div_(stabilised(part, self.epsilon, rectified))
        return r, None

    def membrane(self, drive: Tensor, carried: Tensor, size: Tensor | None) -> Tensor | None:
        return drive.abs().add_(self.epsilon)


class SizeShare(Relevance):
    """LFP-z+z- (Eqs. 12, 13, A.13): ``r_ij = z_ij / s_j sign(z_j) r_j``; a feedback can only shrink on its way."""

    needs_size = True

    def share(self, r: Tensor, z: Tensor, size: Tensor | None, *, rectified: bool, own: bool) -> Shares:
        assert size is not None
        q = _over(r, _nonzero(size), own)
        return (q if rectified else q.mul_(z.sign())), None

    def membrane(self, drive: Tensor, carried: Tensor, size: Tensor | None) -> Tensor | None:
        assert size is not None
        return _nonzero(size + carried.abs())


class AlphaBeta(AlphaBetaOptions, Relevance):
    """LFP-alpha-beta (Eqs. 10, 11): positive and negative contributions get alpha and -beta of the feedback, by their share.

    ``alpha z_ij / (z_j+ + epsilon) sign(z_j) r_j`` where z_ij > 0, ``-beta z_ij / (z_j- - epsilon) sign(z_j) r_j`` where it is
    below 0. A side of no more than 4 units in the last place of s is taken for its rounding and gets nothing. In float32 a side
    that is 1e-4 of s is known to 6e-5 to 4e-4 of itself (512 to 4,608 inputs), one of 1e-6 to 1 to 4 %.
    """

    needs_size = True

    def share(self, r: Tensor, z: Tensor, size: Tensor | None, *, rectified: bool, own: bool) -> Shares:
        assert size is not None
        if not rectified:
            r = torch.mul(r, z.sign(), out=r) if own else r * z.sign()
        least = size * (4 * torch.finfo(size.dtype).eps)
        to_positive = torch.div(r, _side(size, z, 1, least, self.epsilon)).mul_(self.alpha)
        to_negative = torch.div(r, _side(size, z, -1, least, self.epsilon)).mul_(self.beta)
        q = torch.add(to_positive, to_negative, out=r) if own else to_positive + to_negative
        return q, to_positive.sub_(to_negative)


def _side(size: Tensor, z: Tensor, sign: int, least: Tensor, epsilon: float) -> Tensor:
    """Return twice ``the sum of one side + epsilon``, infinite where the side is empty."""
    side = torch.add(size, z, alpha=sign)
    return side.masked_fill_(side <= least, torch.inf).add_(2 * epsilon)


class Gamma(GammaOptions, Relevance):
    """LFP-gamma: epsilon's rule with the contributions of the output's own sign counted 1 + gamma times.

    ``r_ij = c_ij / (c_j + sign(z_j) epsilon) r_j`` with ``c_ij = (1 + gamma) z_ij`` where z_ij has the sign of z_j, else z_ij,
    and c_j their sum: the generalised gamma rule of layer-wise relevance propagation. The paper does not have it and the
    authors mark theirs as wrong.
    """

    needs_size = True

    def share(self, r: Tensor, z: Tensor, size: Tensor | None, *, rectified: bool, own: bool) -> Shares:
        assert size is not None
        sign = torch.where(z < 0, -1.0, 1.0).to(z.dtype)
        own_side = size.add_(z.abs()).mul_(sign).mul_(self.gamma / 2)
        base = _over(r, own_side.add_(z).add_(sign, alpha=self.epsilon), own)
        return base * (1 + self.gamma / 2), sign.mul_(base).mul_(self.gamma / 2)


def _nonzero(size: Tensor) -> Tensor:
    # Where it is 0 all contributions are, so that any number above 0 serves; any other is too large to notice this one.
    return size.add_(1e-30)
