"""Compiled loops over voxels; their sums are integers, so results do not depend on the order of the voxels."""

from __future__ import annotations

import numpy as np

from ...common.jit import kernel


@kernel
def count_top(bits, counts):
    """Add to ``counts`` (int32, 4 × 65536 flat) how many scores have each top half of the key (numba).

    Many additions to one place in memory wait for each other: a block of equal halves is added at once, and otherwise
    four rows are filled in turn.
    """
    for start in range(0, bits.shape[0], 4096):
        block = bits[start : start + 4096]
        same = 1
        while same < block.shape[0] and block[same] >> 16 == block[0] >> 16:
            same += 1
        if same == block.shape[0] and block[0] >> 16 != -32768:
            b = np.int64(block[0])
            key = b + 2147483648 if b >= 0 else -1 - b
            counts[np.uint64(key >> 16)] += same
            continue
        for i in range(block.shape[0]):
            b = np.int64(block[i])
            key = b + 2147483648 if b >= 0 else -1 - b
            if key == 2147483647:
                key += 1
            counts[np.uint64((i & 3) << 16 | key >> 16)] += 1


@kernel
def count_bins(bits, labels, table, counts):
    """Add to ``counts`` (int32, bins × 2 flat) the negatives and positives of each bin (numba).

    A block of equal scores is added at once, as in :func:`count_top`.
    """
    for start in range(0, bits.shape[0], 4096):
        block = bits[start : start + 4096]
        flags = labels[start : start + 4096]
        same = 1
        while same < block.shape[0] and block[same] == block[0]:
            same += 1
        if same == block.shape[0]:
            b = np.int64(block[0])
            key = b + 2147483648 if b >= 0 else -1 - b
            if key == 2147483647:
                key += 1
            entry = table[np.uint64(key >> 16)]
            slot = (entry >> 7) + (key >> ((entry >> 1) & 63))
            while entry & 1:
                entry = table[np.uint64(slot)]
                slot = (entry >> 7) + (key >> ((entry >> 1) & 63))
            positives = np.int64(0)
            for i in range(flags.shape[0]):
                positives += flags[i]
            counts[np.uint64(2 * slot)] += same - positives
            counts[np.uint64(2 * slot + 1)] += positives
            continue
        for i in range(block.shape[0]):
            b = np.int64(block[i])
            key = b + 2147483648 if b >= 0 else -1 - b
            if key == 2147483647:
                key += 1
            entry = table[np.uint64(key >> 16)]
            slot = (entry >> 7) + (key >> ((entry >> 1) & 63))
            while entry & 1:
                entry = table[np.uint64(slot)]
                slot = (entry >> 7) + (key >> ((entry >> 1) & 63))
            counts[np.uint64(2 * slot + flags[i])] += 1


@kernel
def find_bins(bits, table, out):
    """Write the bin of every score to ``out`` (int64) (numba)."""
    for i in range(bits.shape[0]):
        b = np.int64(bits[i])
        key = b + 2147483648 if b >= 0 else -1 - b
        if key == 2147483647:
            key += 1
        entry = table[np.uint64(key >> 16)]
        slot = (entry >> 7) + (key >> ((entry >> 1) & 63))
        while entry & 1:
            entry = table[np.uint64(slot)]
            slot = (entry >> 7) + (key >> ((entry >> 1) & 63))
        out[i] = slot


@kernel
def max_tree(order, value, grid, position, offsets, parent, area):
    """Build the component tree of a map from its highest voxel down, by union-find with union by size (numba).

    Args:
        order: int32 (n,), voxels from the highest value to the lowest.
        value: float32 (n,), in the order of the region's voxels.
        grid: int32, flattened padded box: number of the voxel in the region, or −1.
        position: int32 (n,), place of each voxel in ``grid``.
        offsets: int64, steps from a place to its neighbours.
        parent: int32 (n,), out: where the component of each voxel continues at a lower (or the same) level.
        area: int32 (n,), out: voxels of that component that are at least as high.
    """
    root = np.full(value.shape[0], -1, np.int32)
    low = np.empty(value.shape[0], np.int32)
    for r in range(order.shape[0]):
        p = order[r]
        parent[p] = p
        root[p] = p
        low[p] = p
        area[p] = 1
        top = p
        place = position[p]
        for j in range(offsets.shape[0]):
            q = grid[place + offsets[j]]
            if q < 0 or root[q] < 0:
                continue
            while root[q] != q:
                root[q] = root[root[q]]
                q = root[q]
            if q == top:
                continue
            below = low[q]
            parent[below] = p
            if area[below] > area[p]:
                root[top] = q
                top = q
            else:
                root[q] = top
            area[p] += area[below]
            low[top] = p


@kernel
def open_area(order, value, parent, area, least, lowest, out):
    """Write the area opening: the highest level at which a voxel's component has ``least`` voxels (numba)."""
    for r in range(order.shape[0] - 1, -1, -1):
        p = order[r]
        q = parent[p]
        if q != p and value[q] == value[p]:
            out[p] = out[q]
        elif area[p] >= least:
            out[p] = value[p]
        elif q != p:
            out[p] = out[q]
        else:
            out[p] = lowest
