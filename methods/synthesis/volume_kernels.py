"""Compiled kernels of the synthesis in volumes: Gaussian filter, ellipsoid painting, salt noise, injection."""

import numpy as np

from ...common.jit import kernel


@kernel
def smooth(volume, taps_z, taps_y, taps_x):
    """Filter ``volume`` (z, y, x) in place with symmetric kernels, mirrored about the edges (SciPy's ``reflect``).

    Args:
        volume: float32 or float64, C order.
        taps_z, taps_y, taps_x: the middle tap and those to one side of it, in the dtype of ``volume``.
    """
    depth, height, width = volume.shape
    line = np.empty(width, volume.dtype)
    reach = taps_x.size - 1
    padded = np.empty(width + 2 * reach, volume.dtype)
    for z in range(depth):
        for y in range(height):
            row = volume[z, y]
            for i in range(padded.size):
                x = (i - reach) % (2 * width)
                padded[i] = row[x if x < width else 2 * width - 1 - x]
            middle = padded[reach:]
            for x in range(width):
                line[x] = taps_x[0] * middle[x]
            for t in range(1, reach + 1):
                w, left, right = taps_x[t], padded[reach - t :], padded[reach + t :]
                for x in range(width):
                    line[x] += w * (left[x] + right[x])
            row[:] = line
    plane = np.empty((height, width), volume.dtype)
    for z in range(depth):
        plane[:] = volume[z]
        for y in range(height):
            out, here = volume[z, y], plane[y]
            for x in range(width):
                out[x] = taps_y[0] * here[x]
            for t in range(1, taps_y.size):
                up, down = (y - t) % (2 * height), (y + t) % (2 * height)
                w = taps_y[t]
                above = plane[up if up < height else 2 * height - 1 - up]
                below = plane[down if down < height else 2 * height - 1 - down]
                for x in range(width):
                    out[x] += w * (above[x] + below[x])
    slab = np.empty((depth, width), volume.dtype)
    for y in range(height):
        for z in range(depth):
            slab[z] = volume[z, y]
        for z in range(depth):
            out, here = volume[z, y], slab[z]
            for x in range(width):
                out[x] = taps_z[0] * here[x]
            for t in range(1, taps_z.size):
                up, down = (z - t) % (2 * depth), (z + t) % (2 * depth)
                w = taps_z[t]
                above = slab[up if up < depth else 2 * depth - 1 - up]
                below = slab[down if down < depth else 2 * depth - 1 - down]
                for x in range(width):
                    out[x] += w * (above[x] + below[x])


@kernel
def paint(field, slack, start, stop, centre, to_unit, label, owner, touched):
    """Write ``label`` into the free voxels of ``owner`` that lie in a deformed ellipsoid.

    Args:
        field: displacements in units of the ellipsoid, float64 (3, …), on nodes spread evenly over the box.
        slack: length of the largest displacement; points farther from the surface are not looked up.
        start, stop: int64 (3,), the box.
        centre: int64 (3,).
        to_unit: float64 (3, 3), takes an offset from the centre to the unit ball.
        label: number of this blob, 1 or more.
        owner: uint16 (z, y, x), 0 where free.
        touched: bool, set at the labels of the blobs that this one overlaps or touches (26 neighbours).

    Returns:
        First and last painted z, y and x, then the number of voxels.
    """
    depth, height, width = owner.shape
    nz, ny, nx = field.shape[1:]
    # The nodes lie evenly over the box: a step from voxel to voxel in units of their distance.
    step_z = (nz - 1) / max(stop[0] - start[0] - 1, 1)
    step_y = (ny - 1) / max(stop[1] - start[1] - 1, 1)
    step_x = (nx - 1) / max(stop[2] - start[2] - 1, 1)
    # No displacement moves a point farther than slack: nearer than inner it is inside, beyond outer it is outside, and
    # only the shell between the two looks the field up.
    inner, outer = max(1 - slack, 0.0) ** 2, (1 + slack) ** 2
    low_z, low_y, low_x, high_z, high_y, high_x, count = depth, height, width, -1, -1, -1, 0
    along = to_unit[0, 2] ** 2 + to_unit[1, 2] ** 2 + to_unit[2, 2] ** 2
    # One voxel of margin on both sides, so that neighbours need no test of the border.
    inside = np.zeros(width + 2, np.bool_)
    knots = np.empty((3, nx))
    for z in range(start[0], stop[0]):
        pz = z - centre[0]
        gz = (z - start[0]) * step_z
        iz = min(int(gz), max(nz - 2, 0))
        jz, fz = min(iz + 1, nz - 1), gz - iz
        for y in range(start[1], stop[1]):
            py = y - centre[1]
            u0 = to_unit[0, 0] * pz + to_unit[0, 1] * py
            v0 = to_unit[1, 0] * pz + to_unit[1, 1] * py
            w0 = to_unit[2, 0] * pz + to_unit[2, 1] * py
            # Along x the squared distance from the centre is a parabola: its vertex, and from there as far as outer.
            nearest = -(to_unit[0, 2] * u0 + to_unit[1, 2] * v0 + to_unit[2, 2] * w0) / along
            room = (outer - (u0 * u0 + v0 * v0 + w0 * w0)) / along + nearest * nearest
            if room < 0:
                continue
            first = max(int(np.floor(centre[2] + nearest - np.sqrt(room))), start[2])
            end = min(int(np.ceil(centre[2] + nearest + np.sqrt(room))) + 1, stop[2])
            gy = (y - start[1]) * step_y
            iy = min(int(gy), max(ny - 2, 0))
            jy, fy = min(iy + 1, ny - 1), gy - iy
            # The field on this line is interpolated between rows of nodes once; voxels then read it along x alone.
            for axis in range(3):
                a, b, c, d = field[axis, iz, iy], field[axis, iz, jy], field[axis, jz, iy], field[axis, jz, jy]
                for k in range(nx):
                    knots[axis, k] = (1 - fz) * ((1 - fy) * a[k] + fy * b[k]) + fz * ((1 - fy) * c[k] + fy * d[k])
            painted = 0
            for x in range(first, end):
                px = x - centre[2]
                u, v, w = u0 + to_unit[0, 2] * px, v0 + to_unit[1, 2] * px, w0 + to_unit[2, 2] * px
                square = u * u + v * v + w * w
                if square >= inner:
                    gx = (x - start[2]) * step_x
                    i = min(int(gx), max(nx - 2, 0))
                    j, f = min(i + 1, nx - 1), gx - i
                    u += (1 - f) * knots[0, i] + f * knots[0, j]
                    v += (1 - f) * knots[1, i] + f * knots[1, j]
                    w += (1 - f) * knots[2, i] + f * knots[2, j]
                    square = u * u + v * v + w * w
                inside[x + 1] = square <= 1
                painted += square <= 1
            if painted > 0:
                count += painted
                low_z, high_z = min(low_z, z), max(high_z, z)
                low_y, high_y = min(low_y, y), max(high_y, y)
                for a in range(max(z - 1, 0), min(z + 2, depth)):
                    for b in range(max(y - 1, 0), min(y + 2, height)):
                        owners = owner[a, b]
                        for x in range(max(first - 1, 0), min(end + 1, width)):
                            if owners[x] != 0 and (inside[x] or inside[x + 1] or inside[x + 2]):
                                touched[owners[x]] = True
                owners = owner[z, y]
                for x in range(first, end):
                    if inside[x + 1]:
                        low_x, high_x = min(low_x, x), max(high_x, x)
                        if owners[x] == 0:
                            owners[x] = label
            inside[first + 1 : end + 1] = False
    return low_z, high_z, low_y, high_y, low_x, high_x, count


@kernel
def rough_ball(table, to_unit, start, out):
    """Mark the voxels of a box, bool (z, y, x), that lie in a turned ellipsoid with a rough surface.

    Args:
        table: float64 (n, 2n + 1), radii of the rough unit ball; rows are polar angles (i + ½)·π/n about the first
            axis, columns azimuths j·π/n from the third axis to the second; the last column repeats the first.
        to_unit: float64 (3, 3), takes an offset in voxels to the unit ball.
        start: int64 (3,), the first voxel of the box relative to the middle.
    """
    rows, columns = table.shape
    least, most = table.min() ** 2, table.max() ** 2
    for z in range(out.shape[0]):
        for y in range(out.shape[1]):
            pz, py = z + start[0], y + start[1]
            u0 = to_unit[0, 0] * pz + to_unit[0, 1] * py
            v0 = to_unit[1, 0] * pz + to_unit[1, 1] * py
            w0 = to_unit[2, 0] * pz + to_unit[2, 1] * py
            for x in range(out.shape[2]):
                px = x + start[2]
                u, v, w = u0 + to_unit[0, 2] * px, v0 + to_unit[1, 2] * px, w0 + to_unit[2, 2] * px
                square = u * u + v * v + w * w
                if square <= least or square > most:
                    out[z, y, x] = square <= least
                    continue
                distance = np.sqrt(square)
                polar = np.arccos(min(max(u / distance, -1.0), 1.0)) * rows / np.pi - 0.5
                polar = min(max(polar, 0.0), rows - 1.0)
                around = np.arctan2(v, w) * rows / np.pi
                if around < 0:
                    around += columns - 1
                i, j = min(int(polar), rows - 2), min(int(around), columns - 2)
                f, g = polar - i, around - j
                above = (1 - g) * table[i, j] + g * table[i, j + 1]
                below = (1 - g) * table[i + 1, j] + g * table[i + 1, j + 1]
                out[z, y, x] = distance <= (1 - f) * above + f * below


@kernel
def warp(image, outside, first, step, controls, basis_z, basis_y, basis_x, out):
    """Read a volume, float32 (Z, Y, X), linearly at displaced places into ``out``, float32 (z, y, x).

    Args:
        outside: value beyond the volume, float32.
        first: float64 (3,), place of the first voxel of ``out`` before it is displaced; ``step`` leads to the next.
        controls: float64 (3, i, j, k), displacements in voxels of the volume.
        basis_z, basis_y, basis_x: float64 (z, i), (y, j), (x, k), their weights along each axis of ``out``.
    """
    depth, height, width = image.shape
    plane = np.empty((3, controls.shape[2], controls.shape[3]))
    line = np.empty((3, controls.shape[3]))
    for z in range(out.shape[0]):
        plane[:] = 0
        for i in range(controls.shape[1]):
            plane += basis_z[z, i] * controls[:, i]
        for y in range(out.shape[1]):
            line[:] = 0
            for j in range(controls.shape[2]):
                line += basis_y[y, j] * plane[:, j]
            for x in range(out.shape[2]):
                pz, py, px = first[0] + z * step[0], first[1] + y * step[1], first[2] + x * step[2]
                for k in range(controls.shape[3]):
                    weight = basis_x[x, k]
                    pz += weight * line[0, k]
                    py += weight * line[1, k]
                    px += weight * line[2, k]
                iz, iy, ix = int(np.floor(pz)), int(np.floor(py)), int(np.floor(px))
                fz, fy, fx = pz - iz, py - iy, px - ix
                total = 0.0
                for a in range(2):
                    for b in range(2):
                        for c in range(2):
                            value = outside
                            if 0 <= iz + a < depth and 0 <= iy + b < height and 0 <= ix + c < width:
                                value = image[iz + a, iy + b, ix + c]
                            share = (fz if a else 1 - fz) * (fy if b else 1 - fy) * (fx if c else 1 - fx)
                            total += share * value
                out[z, y, x] = total


@kernel
def turned(image, roi, matrix, offset, out, inside):
    """Read a volume, float32 (z, y, x), linearly at ``matrix`` · p + ``offset``, from its organ alone.

    Args:
        roi: bool, the organ; places beyond the middles of the outermost voxels have none.
        out: float32, same shape, the mean over the organ of the eight voxels around a place, weighted as a linear
            reading weights them; 0 where less than half of the weight is organ.
        inside: bool, same shape, where it is not.
    """
    depth, height, width = image.shape
    for z in range(depth):
        for y in range(height):
            for x in range(width):
                out[z, y, x], inside[z, y, x] = 0, False
                pz = matrix[0, 0] * z + matrix[0, 1] * y + matrix[0, 2] * x + offset[0]
                py = matrix[1, 0] * z + matrix[1, 1] * y + matrix[1, 2] * x + offset[1]
                px = matrix[2, 0] * z + matrix[2, 1] * y + matrix[2, 2] * x + offset[2]
                if not (0 <= pz <= depth - 1 and 0 <= py <= height - 1 and 0 <= px <= width - 1):
                    continue
                iz, iy, ix = int(pz), int(py), int(px)
                fz, fy, fx = pz - iz, py - iy, px - ix
                share = total = 0.0
                for a in range(2):
                    for b in range(2):
                        for c in range(2):
                            w = (fz if a else 1 - fz) * (fy if b else 1 - fy) * (fx if c else 1 - fx)
                            if w > 0 and roi[iz + a, iy + b, ix + c]:
                                share += w
                                total += w * image[iz + a, iy + b, ix + c]
                if share >= 0.5:
                    out[z, y, x], inside[z, y, x] = total / share, True


@kernel
def salt(nodes, bits, out):
    """Fill ``out``, float32 (z, y, x), with ones at the probability interpolated from ``nodes``, else zeros.

    Args:
        nodes: probabilities, float64, spread evenly over the volume.
        bits: uint32, as many as there are voxels; uniform.
    """
    depth, height, width = out.shape
    nz, ny, nx = nodes.shape
    at = 0
    knots = np.empty(nx)
    below = np.empty(width, np.int64)
    weight = np.empty(width)
    for x in range(width):
        gx = x * (nx - 1) / max(width - 1, 1)
        below[x] = min(int(gx), max(nx - 2, 0))
        weight[x] = gx - below[x]
    for z in range(depth):
        gz = z * (nz - 1) / max(depth - 1, 1)
        iz = min(int(gz), max(nz - 2, 0))
        jz, fz = min(iz + 1, nz - 1), gz - iz
        for y in range(height):
            gy = y * (ny - 1) / max(height - 1, 1)
            iy = min(int(gy), max(ny - 2, 0))
            jy, fy = min(iy + 1, ny - 1), gy - iy
            for k in range(nx):
                near = (1 - fy) * nodes[iz, iy, k] + fy * nodes[iz, jy, k]
                far = (1 - fy) * nodes[jz, iy, k] + fy * nodes[jz, jy, k]
                knots[k] = ((1 - fz) * near + fz * far) * 4294967296.0  # 2^32: compared with whole random words
            row = out[z, y]
            for x in range(width):
                i = below[x]
                level = knots[i] + weight[x] * (knots[min(i + 1, nx - 1)] - knots[i])
                row[x] = np.float32(1) if bits[at + x] < level else np.float32(0)
            at += width


@kernel
def sum_above(volume, threshold):
    """Return sum and number of the values above ``threshold``."""
    flat = volume.reshape(-1)
    total, count = 0.0, 0
    for i in range(flat.size):
        if flat[i] > threshold:
            total += flat[i]
            count += 1
    return total, count


@kernel
def inject(texture, scale, start, component, which, owner, roi, image, blobs):
    """Raise ``image`` to the scaled texture inside one merged blob and the ROI, and mark the voxels in ``blobs``.

    Args:
        texture: float32 (z, y, x), over a box.
        scale: factor before clipping to 0 … 1.
        start: int64 (3,), first voxel of the box.
        component: merged blob of each label of ``owner``; ``which`` is the one to fill.
    """
    for z in range(texture.shape[0]):
        for y in range(texture.shape[1]):
            line, owners, inside = texture[z, y], owner[start[0] + z, start[1] + y], roi[start[0] + z, start[1] + y]
            values, marks = image[start[0] + z, start[1] + y], blobs[start[0] + z, start[1] + y]
            for x in range(texture.shape[2]):
                at = start[2] + x
                if owners[at] != 0 and component[owners[at]] == which and inside[at]:
                    values[at] = max(values[at], min(np.float32(scale * line[x]), np.float32(1)))
                    marks[at] = True
