"""Enlarged phantoms: the data layer reads them as the sets they are laid out like."""

import numpy as np
import pytest
from uasbench.benchmark.catalogue import registry
from uasbench.datasets.phantom.disk import phantom_root
from uasbench.experiments.diagnostics import real_size


@pytest.mark.slow
def test_enlarged_scans_are_those_of_the_phantom(tmp_path):
    root, wanted = tmp_path / "root", (11, 25)
    real_size.main([str(root), "--shape", "150", "160", "40", "--scans", *map(str, wanted)])
    sets, small = registry.datasets(), phantom_root(tmp_path / "small", anatomy="liver", seed=0, size="quick")
    for name, count in zip(("btcv", "lits"), wanted, strict=True):
        found, before = sets.get(name)(), sets.get(name)()
        scans, own = ({scan.id for scan in kind.discover(at)} for kind, at in ((found, root), (before, small)))
        assert len(scans) == count
        assert own < scans
        large, before = (kind.load(min(own)) for kind in (found, before))
        assert large.image.shape == (40, 160, 150)
        copy = found.load(min(scans - own))
        assert np.array_equal(copy.roi, large.roi)
        assert 5 < np.std(copy.image - large.image) < 20
        assert np.multiply(large.image.shape, large.spacing) == pytest.approx(
            np.multiply(before.image.shape, before.spacing)
        )
        assert large.roi.mean() == pytest.approx(before.roi.mean(), rel=0.02)
        assert large.image[large.roi].mean() == pytest.approx(before.image[before.roi].mean(), abs=8)


def test_a_folder_that_is_there_is_left_alone(tmp_path):
    with pytest.raises(FileExistsError):
        real_size.main([str(tmp_path)])
