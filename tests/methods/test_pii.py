"""Poisson image interpolation: what differs from foreign patch interpolation."""

import numpy as np
from uasbench.methods.context import FitContext
from uasbench.methods.pseudo_anomaly.fpi import FPI
from uasbench.methods.pseudo_anomaly.pii import PII


def test_patches_have_no_seam(make_method, healthy):
    """At a patch's rim the blend stays close to the slice, where interpolation jumps."""
    steps = {}
    for cls in (FPI, PII):
        method = make_method(cls, "smoke", {"batch": 24, "half_width": (0.15, 0.25), "alpha": (0.9, 0.95)})
        clean, images, targets, rois = method.batch_source(healthy, FitContext(seed=0), "fit")()
        changed = targets > 0
        inner = changed[:, 1:-1, 1:-1] & changed[:, 2:, 1:-1] & changed[:, :-2, 1:-1]
        inner &= changed[:, 1:-1, 2:] & changed[:, 1:-1, :-2]
        rim = changed[:, 1:-1, 1:-1] & ~inner
        rim &= rois[:, 2:, 1:-1] & rois[:, :-2, 1:-1] & rois[:, 1:-1, 2:] & rois[:, 1:-1, :-2]
        away = np.abs(images - clean)[:, 1:-1, 1:-1]
        steps[cls.card.name] = away[rim].mean() / away[inner].mean()
    assert steps["pii"] < 0.8 * steps["fpi"]
