"""Compiled loops of NormNet's post-processing: box sums of one slice, and runs of voxels joined to components.

``state`` is uint8 (rows, width), rows of all slices; its runs of non-zero voxels are described by the arrays of
:class:`.growing.Components`: ``offsets``, ``first``, ``stop``, ``parent``, ``size`` and ``marked``.
"""

import numpy as np

from ....common.jit import kernel


@kernel
def slide_binary(image, roi, healthy, y0, x0, least, slot, total):
    """Replace a slice of the moving sum by 1 where an unhealthy ROI voxel reaches ``least`` (numba).

    Args:
        image: float32 (H, W); ``roi`` and ``healthy`` are bool of the same shape.
        y0: first row of the box, ``x0`` its first column.
        slot: (h, w), the slice that leaves the sum; holds the one that enters afterwards.
        total: (h, w), the sum.
    """
    width = slot.shape[1]
    for y in range(slot.shape[0]):
        values, inside = image[y0 + y, x0 : x0 + width], roi[y0 + y, x0 : x0 + width]
        normal, old, line = healthy[y0 + y, x0 : x0 + width], slot[y], total[y]
        for x in range(width):
            new = np.uint8((values[x] >= least) & inside[x] & (not normal[x]))
            line[x] += new - old[x]
            old[x] = new


@kernel
def slide_intensity(image, roi, healthy, y0, x0, least, scale, slot, total):
    """As :func:`slide_binary`, with the voxels' values in [0, 1] as multiples of 1 / ``scale`` (numba)."""
    width = slot.shape[1]
    for y in range(slot.shape[0]):
        values, inside = image[y0 + y, x0 : x0 + width], roi[y0 + y, x0 : x0 + width]
        normal, old, line = healthy[y0 + y, x0 : x0 + width], slot[y], total[y]
        for x in range(width):
            # Whole levels instead of real numbers: what enters the moving sum leaves it again without a rest.
            value = min(max(values[x], np.float32(0)), np.float32(1))
            level = np.int32(value * scale + np.float32(0.5))
            new = level if (values[x] >= least) & inside[x] & (not normal[x]) else np.int32(0)
            line[x] += new - old[x]
            old[x] = new


@kernel
def mark_sums(total, radius, bound, roi, y0, x0, bit, columns, state):
    """Set ``bit`` where an ROI voxel's square of ``total`` sums to more than ``bound`` (numba).

    Args:
        total: integers (h, w), 0 beyond its border.
        radius: half the side of the square, voxels.
        roi: bool (H, W), where the box begins at row ``y0`` and column ``x0``.
        columns: zeros (w + 2 · radius + 1,), sums over rows with zeros on both sides.
        state: uint8 (H, W), out.
    """
    # sums holds each column over the rows of the square; a window runs over them with the zeros beside as margins, so
    # that ahead[x] enters and columns[x] leaves without a test of the border.
    height, width = total.shape
    sums, ahead = columns[radius + 1 : radius + 1 + width], columns[2 * radius + 1 :]
    windows = np.empty(width, np.int32)
    most = np.int32(bound)
    sums[:] = 0
    for y in range(min(radius, height)):
        line = total[y]
        for x in range(width):
            sums[x] += line[x]
    for y in range(height):
        if y + radius < height:
            line = total[y + radius]
            for x in range(width):
                sums[x] += line[x]
        if y > radius:
            line = total[y - radius - 1]
            for x in range(width):
                sums[x] -= line[x]
        window = np.int32(0)
        for x in range(min(radius, width)):
            window = np.int32(window + sums[x])
        for x in range(width):
            window = np.int32(window + ahead[x] - columns[x])
            windows[x] = window
        inside, out = roi[y0 + y, x0 : x0 + width], state[y0 + y, x0 : x0 + width]
        for x in range(width):
            out[x] |= np.uint8((windows[x] > most) & inside[x]) * bit


@kernel
def mark_edges(image, roi, tau, state):
    """Set bit 1 on bright ROI voxels, and bit 2 on those with a neighbour outside the ROI in the slice (numba).

    Args:
        image: float32 (H, W).
        roi: bool, same shape; beyond its border lies the outside.
        tau: least value of a bright voxel.
        state: uint8, same shape, out.
    """
    height, width = image.shape
    for y in range(height):
        values, inside, out = image[y], roi[y], state[y]
        if y == 0 or y == height - 1:
            for x in range(width):
                out[x] = np.uint8((values[x] >= tau) & inside[x]) * np.uint8(3)
            continue
        # Every bright voxel gets both bits, then those with four neighbours in the ROI lose the second: no branch.
        above, below, left, right = roi[y - 1], roi[y + 1], inside[: width - 2], inside[2:]
        for x in range(width):
            out[x] = np.uint8((values[x] >= tau) & inside[x]) * np.uint8(3)
        for x in range(width - 2):
            deep = above[x + 1] & below[x + 1] & left[x] & right[x]
            out[x + 1] &= np.uint8(3) - np.uint8(deep) * np.uint8(2)


@kernel
def count_runs(state, offsets):
    """Write the number of runs of non-zero voxels before each row into ``offsets`` (numba)."""
    width = state.shape[1]
    offsets[0] = 0
    for row in range(state.shape[0]):
        line = state[row]
        runs = np.int32(line[0] != 0)
        before, now = line[: width - 1], line[1:]
        for x in range(width - 1):
            runs += np.int32((now[x] != 0) & (before[x] == 0))
        offsets[row + 1] = offsets[row] + runs


@kernel
def join_runs(state, height, offsets, first, stop, parent):
    """Find the runs of every row and join those that share a face with a run of the row or slice before (numba).

    Slices have ``height`` rows. Filled are ``first``, ``stop`` and ``parent``: a run of the same component, never a
    later one; the first run is its own parent.
    """
    width = state.shape[1]
    # One byte per voxel says whether a run begins or ends there; eight bytes without either are passed at once.
    turns = np.zeros(8 * (width // 8 + 1), np.uint8)
    words = turns.view(np.uint64)
    for row in range(state.shape[0]):
        begin, end = offsets[row], offsets[row + 1]
        if begin == end:
            continue
        line = state[row]
        before, now, later = line[: width - 1], line[1:], turns[1:width]
        turns[0] = line[0] != 0
        for x in range(width - 1):
            later[x] = (now[x] != 0) != (before[x] != 0)
        turns[width] = line[width - 1] != 0
        run, inside = begin, False
        for word in range(words.shape[0]):
            if words[word] == 0:
                continue
            for x in range(8 * word, 8 * word + 8):
                if turns[x] == 0:
                    continue
                if inside:
                    stop[run] = x
                    run += 1
                else:
                    first[run] = x
                    parent[run] = run
                inside = not inside
        # Both rows are sorted: two pointers find every pair of runs that overlap. The root of a pair is its first run,
        # and looking it up shortens the way for the next time.
        for side in range(2):
            other = row - 1 if side == 0 else row - height
            if other < 0 or (side == 0 and row % height == 0):
                continue
            a, b, last = begin, offsets[other], offsets[other + 1]
            while a < end and b < last:
                if first[a] < stop[b] and first[b] < stop[a]:
                    p, q = a, b
                    while parent[p] != p:
                        parent[p] = parent[parent[p]]
                        p = parent[p]
                    while parent[q] != q:
                        parent[q] = parent[parent[q]]
                        q = parent[q]
                    parent[max(p, q)] = min(p, q)
                if stop[a] <= stop[b]:
                    a += 1
                else:
                    b += 1


@kernel
def count_components(state, bit, offsets, first, stop, parent, size, marked):
    """Count each component's voxels, and those with ``bit``, at its first run; point every run there (numba)."""
    for row in range(state.shape[0]):
        line = state[row]
        for run in range(offsets[row], offsets[row + 1]):
            root = parent[parent[run]]
            parent[run] = root
            voxels = line[first[run] : stop[run]]
            count = np.int32(0)
            for x in range(voxels.shape[0]):
                count += np.int32((voxels[x] & bit) != 0)
            size[root] += voxels.shape[0]
            marked[root] += count


@kernel
def paint_runs(offsets, first, stop, parent, keep, state):
    """Write 1 on the runs of the components to keep (bool, read at first runs) and 0 on all others (numba)."""
    for row in range(state.shape[0]):
        line = state[row]
        for run in range(offsets[row], offsets[row + 1]):
            line[first[run] : stop[run]] = np.uint8(keep[parent[run]])
