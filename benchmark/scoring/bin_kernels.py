"""Compiled loops over voxels; their sums are integers, so results do not depend on the order of the voxels."""

import numpy as np

from ...common.jit import inlined, kernel


@inlined
def key_of(bits):
    """Return the sortable key of the bits of a float32 (numba), as ``bins.keys_of`` does for arrays."""
    b = np.int64(bits)
    # The bits of negative floats grow with their magnitude: counted backwards they sort.
    key = b + 2147483648 if b >= 0 else -1 - b
    # −0.0 would come right below 0.0: they are one score.
    return key + 1 if key == 2147483647 else key


@inlined
def bin_of(key, table):
    """Return the bin of a key (numba): walk down the tree that ``Bins._build`` packs."""
    # The top half of the key is the place of the first entry. Unsigned places spare a check for negative ones.
    entry = table[np.uint64(key >> 16)]
    slot = (entry >> 7) + (key >> ((entry >> 1) & 63))
    # The lowest bit says that the slot is not yet a bin but the place of another entry.
    while entry & 1:
        entry = table[np.uint64(slot)]
        slot = (entry >> 7) + (key >> ((entry >> 1) & 63))
    return slot


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
        # The half of −0.0 also holds small negative scores, whose keys have another top half.
        if same == block.shape[0] and block[0] >> 16 != -32768:
            counts[np.uint64(key_of(block[0]) >> 16)] += same
            continue
        for i in range(block.shape[0]):
            counts[np.uint64((i & 3) << 16 | key_of(block[i]) >> 16)] += 1


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
            slot = bin_of(key_of(block[0]), table)
            positives = np.int64(0)
            for i in range(flags.shape[0]):
                positives += flags[i]
            counts[np.uint64(2 * slot)] += same - positives
            counts[np.uint64(2 * slot + 1)] += positives
            continue
        for i in range(block.shape[0]):
            counts[np.uint64(2 * bin_of(key_of(block[i]), table) + flags[i])] += 1


@kernel
def find_bins(bits, table, out):
    """Write the bin of every score to ``out`` (int64) (numba)."""
    for i in range(bits.shape[0]):
        out[i] = bin_of(key_of(bits[i]), table)


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
    # ``root`` joins voxels into the components of the current level: a union-find, −1 where the level has not come
    # yet. Its roots are any voxels; ``low`` says which voxel of a component was added last, and so lies lowest: the
    # place where the tree goes on.
    root = np.full(value.shape[0], -1, np.int32)
    low = np.empty(value.shape[0], np.int32)
    for r in range(order.shape[0]):
        # A new level starts as a component of its own voxel p.
        p = order[r]
        parent[p] = p
        root[p] = p
        low[p] = p
        area[p] = 1
        top = p
        place = position[p]
        for j in range(offsets.shape[0]):
            q = grid[place + offsets[j]]
            # Outside the region, or lower than p and so not yet there.
            if q < 0 or root[q] < 0:
                continue
            # The root of the neighbour's component; every other voxel on the way is cut short.
            while root[q] != q:
                root[q] = root[root[q]]
                q = root[q]
            if q == top:
                continue
            # The neighbour's component ends at its lowest voxel and goes on as p's.
            below = low[q]
            parent[below] = p
            # Union by size keeps paths short; which root wins does not change the tree.
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
    # From the lowest voxel up, so that a parent's answer is there before its children ask for it.
    for r in range(order.shape[0] - 1, -1, -1):
        p = order[r]
        q = parent[p]
        if q != p and value[q] == value[p]:
            # Of equal voxels only the lowest knows how large their component is.
            out[p] = out[q]
        elif area[p] >= least:
            out[p] = value[p]
        elif q != p:
            out[p] = out[q]
        else:
            out[p] = lowest
