"""Batch normalisation to be read: both passes, inference, and what was tried before it.

Models use torch's own; the tests hold these formulas against it and against autograd. `x` has one row an example; of images,
each pixel of each image is a row and each channel a column. All statistics are of one column, so that gamma and beta have one
number a column (the lecture's gamma^(i), with the index of examples, is gamma^(k): E44).

Source: Ioffe, Szegedy 2015, Batch normalization: accelerating deep network training by reducing internal covariate shift.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from deepforward.errors import ShapeError


class Normalized(NamedTuple):
    """A batch after normalisation.

    Attributes:
        y: gamma x_hat + beta.
        x_hat: Columns of mean 0 and variance sigma^2/(sigma^2 + eps).
        mean, variance: mu_B and sigma_B^2 of each column, the variance with 1/m.
    """

    y: Tensor
    x_hat: Tensor
    mean: Tensor
    variance: Tensor


class BatchGradients(NamedTuple):
    """Derivatives of the loss by the inputs and the two parameters of a batch normalisation."""

    x: Tensor
    gamma: Tensor
    beta: Tensor


def normalize_batch(
    x: Float[Tensor, "examples features"],
    gamma: Float[Tensor, "features"],
    beta: Float[Tensor, "features"],
    eps: float = 1e-5,
) -> Normalized:
    """Algorithm 1: y = gamma (x - mu_B) / sqrt(sigma_B^2 + eps) + beta.

    With gamma = sqrt(Var[x]) and beta = E[x] it is the identity, so that it takes nothing from what the network can express.

    Args:
        x: A mini-batch of m rows.
        gamma: Scale of each column, learnt.
        beta: Shift of each column, learnt.
        eps: Added to the variance.

    Source: Ioffe & Szegedy 2015, algorithm 1 (step 2 of the lecture's overlay prints mu for mu_B, E44).
    """
    mean = x.mean(0)
    variance = ((x - mean) ** 2).mean(0)
    x_hat = (x - mean) / torch.sqrt(variance + eps)
    return Normalized(gamma * x_hat + beta, x_hat, mean, variance)


def normalize_batch_backward(
    dl_dy: Float[Tensor, "examples features"],
    x: Float[Tensor, "examples features"],
    gamma: Float[Tensor, "features"],
    eps: float = 1e-5,
) -> BatchGradients:
    """The chain rule through `normalize_batch`, in the paper's six lines.

    Args:
        dl_dy: Derivative of the loss by y.
        x: The mini-batch.
        gamma: Scale of each column.
        eps: Added to the variance.

    Source: Ioffe & Szegedy 2015, section 3. An overlay of the lecture prints dl/dy for dl/dx_hat in the fourth line, which is
        right only where gamma = 1, and dl/d eps for dl/d beta in the last (E45).
    """
    m, (_, x_hat, mean, variance) = len(x), normalize_batch(x, gamma, torch.zeros_like(gamma), eps)
    scale = 1 / torch.sqrt(variance + eps)
    dl_dx_hat = dl_dy * gamma
    dl_dvariance = (dl_dx_hat * (x - mean)).sum(0) * -0.5 * scale**3
    dl_dmean = -(dl_dx_hat * scale).sum(0) + dl_dvariance * (-2 * (x - mean)).mean(0)
    dl_dx = dl_dx_hat * scale + dl_dvariance * 2 * (x - mean) / m + dl_dmean / m
    dl_dgamma = (dl_dy * x_hat).sum(0)
    dl_dbeta = dl_dy.sum(0)
    return BatchGradients(dl_dx, dl_dgamma, dl_dbeta)


class Population(NamedTuple):
    """Mean and variance of each column over the data, estimated from batches."""

    mean: Tensor
    variance: Tensor


def population_statistics(batches: Float[Tensor, "batches examples features"]) -> Population:
    """E[x] = E_B[mu_B] and Var[x] = m/(m - 1) E_B[sigma_B^2], which is unbiased, over batches of m rows.

    torch's running statistics are the same with `momentum=None`; otherwise they are means that forget older batches.

    Raises:
        ShapeError: Batches of one row have no variance.

    Source: Ioffe & Szegedy 2015, algorithm 2, steps 8 to 10 (overlays of the lecture lose E_B: E46).
    """
    m = batches.shape[1]
    if m < 2:
        raise ShapeError(f"got batches of {m} rows; expected at least 2, since one has no variance; use larger batches")
    variances = ((batches - batches.mean(1, keepdim=True)) ** 2).mean(1)
    return Population(batches.mean(1).mean(0), m / (m - 1) * variances.mean(0))


class Affine(NamedTuple):
    """y = scale x + shift, by column."""

    scale: Tensor
    shift: Tensor


def folded_affine(
    population: Population, gamma: Float[Tensor, "features"], beta: Float[Tensor, "features"], eps: float = 1e-5
) -> Affine:
    """What batch normalisation is at inference: y = gamma/sqrt(Var + eps) x + (beta - gamma E/sqrt(Var + eps)).

    Args:
        population: Statistics of each column.
        gamma: Scale of each column.
        beta: Shift of each column.
        eps: Added to the variance.

    Source: Ioffe & Szegedy 2015, algorithm 2, step 11 (an overlay of the lecture loses gamma in the numerator: E46).
    """
    scale = gamma / torch.sqrt(population.variance + eps)
    return Affine(scale, beta - scale * population.mean)


class NaiveDescent(NamedTuple):
    """Descent on a bias before a mean that is taken for a constant.

    Attributes:
        biases: (steps + 1, features), the bias before each step and after the last.
        losses: (steps + 1), the loss at each.
        outputs: (2, examples, features), what the layer gives before the first step and after the last.
    """

    biases: Tensor
    losses: Tensor
    outputs: Tensor


def naive_descent(
    u: Float[Tensor, "examples features"], loss: Callable[[Tensor], Tensor], learning_rate: float, steps: int
) -> NaiveDescent:
    """Normalise as if it were no part of the network: x_hat = x - E[x] with x = u + b, and step b by -dl/dx_hat.

    Since u + (b + db) - E[u + (b + db)] = u + b - E[u + b] for any db, neither output nor loss change while b grows without
    bound. The true derivative by b, through E[x] too, is zero.

    Args:
        u: What comes into the layer.
        loss: Of the layer's output.
        learning_rate: Factor of the step.
        steps: Number of steps.

    Source: Ioffe & Szegedy 2015, section 2.
    """
    bias = torch.zeros_like(u[0])
    biases, losses, outputs = [bias], [], []
    for _ in range(steps + 1):
        x = u + biases[-1]
        x_hat = (x - x.mean(0)).detach().requires_grad_()
        value = loss(x_hat)
        (slope,) = torch.autograd.grad(value, x_hat)
        biases.append(biases[-1] - learning_rate * slope.sum(0))
        losses.append(value.detach())
        outputs.append(x_hat.detach())
    return NaiveDescent(torch.stack(biases[:-1]), torch.stack(losses), torch.stack([outputs[0], outputs[-1]]))


def covariance(x: Float[Tensor, "examples features"]) -> Float[Tensor, "features features"]:
    """Cov[x] = E[x x'] - E[x] E[x]', over the rows (the lecture prints "and" for the minus: E42)."""
    mean = x.mean(0)
    return x.T @ x / len(x) - torch.outer(mean, mean)


def whiten(x: Float[Tensor, "examples features"], eps: float = 0.0) -> Float[Tensor, "examples features"]:
    """Cov[x]^(-1/2) (x - E[x]): columns of mean 0 and variance 1 that are not correlated.

    What batch normalisation would be without its two simplifications, each column by itself and over a batch. It needs an
    eigenvalue problem of all columns at each step, and batches of more rows than columns.

    Args:
        x: One row an example.
        eps: Added to the eigenvalues of the covariance.

    Source: Ioffe & Szegedy 2015, section 2; of all square roots the symmetric one, which moves x least.
    """
    return (x - x.mean(0)) @ _inverse_root(x, eps)[0]


def whiten_backward(
    dl_dy: Float[Tensor, "examples features"], x: Float[Tensor, "examples features"], eps: float = 0.0
) -> Float[Tensor, "examples features"]:
    """The chain rule through `whiten`, the Jacobian of Cov^(-1/2) and of E[x] included.

    With Cov + eps = U diag(l) U', a change dC of the covariance changes its inverse root by U (F * U' dC U) U' where
    F_ij = -1/(sqrt(l_i l_j) (sqrt(l_i) + sqrt(l_j))), which has no pole at equal eigenvalues; eigenvectors do.

    Args:
        dl_dy: Derivative of the loss by the whitened rows.
        x: The rows.
        eps: Added to the eigenvalues of the covariance.

    Source: Daleckii, Krein 1965, on the derivative of functions of symmetric matrices.
    """
    centred = x - x.mean(0)
    root, values, vectors = _inverse_root(x, eps)
    s = values.sqrt()
    factors = -1 / (torch.outer(s, s) * (s[:, None] + s))
    dl_dcovariance = vectors @ (factors * (vectors.T @ centred.T @ dl_dy @ vectors)) @ vectors.T
    dl_dcentred = dl_dy @ root + centred @ (dl_dcovariance + dl_dcovariance.T) / len(x)
    return dl_dcentred - dl_dcentred.mean(0)


def _inverse_root(x: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    values, vectors = torch.linalg.eigh(covariance(x))
    values = values + eps
    if not bool(values[0] > 0):
        raise ShapeError(
            f"whitening got {x.shape[0]} rows of {x.shape[1]} columns with a singular covariance; expected more rows than "
            "columns; use more rows or a larger eps"
        )
    return (vectors / values.sqrt()) @ vectors.T, values, vectors
