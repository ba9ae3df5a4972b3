"""The memory of PatchCore: greedy k-centre selection and nearest neighbours, in plain torch on any device."""

import math

import torch


def random_projection(vectors: torch.Tensor, dims: int, generator: torch.Generator) -> torch.Tensor:
    """Project (n, d) onto ``dims`` Gaussian directions, which keeps distances (Johnson & Lindenstrauss 1984).

    Vectors with no more than ``dims`` components are returned as they are.

    Args:
        generator: on the CPU, so that the directions do not depend on the device.
    """
    width = vectors.shape[1]
    if width <= dims:
        return vectors
    directions = torch.randn((width, dims), generator=generator) / math.sqrt(dims)
    return vectors @ directions.to(vectors.device)


def greedy_k_centre(vectors: torch.Tensor, count: int, first: int) -> torch.Tensor:
    """Select ``count`` vectors, each the farthest from those selected before it (PatchCore, Algorithm 1).

    Args:
        vectors: float32 (n, d).
        first: the vector selected first.

    Returns:
        int64 (count,), in the order of selection; no vector is selected twice.

    Raises:
        ValueError: more vectors are wanted than there are.
    """
    if not 0 < count <= len(vectors):
        raise ValueError(f"{count} centres of {len(vectors)} vectors")
    # Distances are differences of large numbers where the cloud lies far from the origin.
    vectors = (vectors - vectors.mean(dim=0)).contiguous()
    squares = torch.linalg.vector_norm(vectors, dim=1).square_()  # without a third copy of the vectors
    nearest = torch.full_like(squares, torch.inf)
    chosen = torch.empty(count, dtype=torch.int64, device=vectors.device)
    distance = torch.empty_like(squares)
    at = torch.tensor(first, device=vectors.device)
    for i in range(count):
        chosen[i] = at
        centre = vectors.index_select(0, at.view(1))[0]
        torch.addmv(squares, vectors, centre, alpha=-2, out=distance)
        distance += squares.index_select(0, at.view(1))
        torch.minimum(nearest, distance, out=nearest)
        nearest[at] = -torch.inf
        at = nearest.argmax()
    return chosen


def nearest_distance(queries: torch.Tensor, bank: torch.Tensor, chunk_bytes: int = 2**26) -> torch.Tensor:
    """Return the Euclidean distance of every query (m, d) to its nearest vector of the bank (n, d), float32 (m,).

    Works in chunks of queries, whose table of distances takes at most ``chunk_bytes``.
    """
    centre = bank.mean(dim=0)
    bank, queries = bank - centre, queries - centre
    squares = (bank * bank).sum(dim=1)
    rows = max(1, chunk_bytes // (4 * len(bank)))
    out = torch.empty(len(queries), device=queries.device)
    for start in range(0, len(queries), rows):
        chunk = queries[start : start + rows]
        least = torch.addmm(squares, chunk, bank.T, alpha=-2).amin(dim=1)
        out[start : start + rows] = least + (chunk * chunk).sum(dim=1)
    return out.clamp_(min=0).sqrt_()
