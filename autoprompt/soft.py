"""Soft prompts as arithmetic: coordinates to vectors, vectors to nearest tokens.

A soft prompt is searched in a low-dimensional space (black-box tuning, Sun et al. 2022): its
vectors are p = p0 + A z, with a start p0, a fixed random matrix A and coordinates z. The entries
of A are normal with deviation sigma_e / sqrt(d), where sigma_e is the deviation of the model's
embedding matrix (BBTv2, Sun et al. 2022, section 4.2), so that z of unit deviation moves each
vector by about the length of an embedding.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Array", "Projection", "from_tokens", "nearest_tokens", "seed_of", "start_random", "start_vocabulary"]

Array = NDArray[np.float32]


def seed_of(*parts: object) -> int:
    """A 63-bit seed from what it is for, e.g. `seed_of(run_seed, "cma", 3)`."""
    digest = hashlib.sha256("\x1f".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


@dataclass(frozen=True)
class Projection:
    """The map p = start + A z.

    `start` is (K, H); `dimensions` is the length d of z. The matrix is drawn from `seed`.

    >>> projection = Projection(np.zeros((4, 8), np.float32), dimensions=3, deviation=0.02, seed=1)
    >>> projection.vectors(np.zeros(3)).shape
    (4, 8)
    """

    start: Array
    dimensions: int
    deviation: float
    seed: int

    def vectors(self, coordinates: NDArray[np.floating]) -> Array:
        """Vectors (K, H) of coordinates (d,). Raises ValueError when their number is not d."""
        if coordinates.shape != (self.dimensions,):
            raise ValueError(f"coordinates have shape {coordinates.shape}, expected ({self.dimensions},)")
        generator = np.random.default_rng(self.seed)
        matrix = generator.standard_normal((self.start.size, self.dimensions), dtype=np.float32)
        matrix *= self.deviation / np.sqrt(self.dimensions)
        moved = self.start.reshape(-1) + matrix @ coordinates.astype(np.float32)
        return np.asarray(moved.reshape(self.start.shape), dtype=np.float32)


def start_random(embeddings: Array, count: int, seed: int) -> Array:
    """`count` vectors (K, H), normal with the mean and deviation of each embedding dimension."""
    generator = np.random.default_rng(seed)
    drawn = generator.standard_normal((count, embeddings.shape[1]), dtype=np.float32)
    return np.asarray(embeddings.mean(0) + drawn * embeddings.std(0), dtype=np.float32)


def start_vocabulary(embeddings: Array, count: int, seed: int) -> Array:
    """The embeddings of `count` random tokens (Lester et al. 2021), (K, H)."""
    chosen = np.random.default_rng(seed).integers(0, len(embeddings), count)
    return np.asarray(embeddings[chosen], dtype=np.float32)


def from_tokens(embeddings: Array, tokens: list[int], count: int) -> Array:
    """The embeddings of `tokens`, repeated or cut to `count` rows, (K, H)."""
    if not tokens:
        raise ValueError("no tokens to start the vectors from")
    return np.asarray(embeddings[np.resize(np.asarray(tokens), count)], dtype=np.float32)


def nearest_tokens(vectors: Array, embeddings: Array) -> list[int]:
    """For each vector (K, H) the id of the token with the highest cosine."""
    unit = embeddings / np.maximum(np.linalg.norm(embeddings, axis=1, keepdims=True), 1e-12)
    return [int(i) for i in np.argmax(vectors @ unit.T, axis=1)]
