"""Enlarged phantoms: the data layer reads them as the sets they are laid out like."""

import numpy as np
import pytest
from uasbench.benchmark.catalogue import registry
from uasbench.datasets.phantom.disk import phantom_root
from uasbench.experiments.diagnostics import real_size


@pytest.mark.slow
def test_enlarged_scans_are_those_of_the_phantom(tmp_path):
    root, shape = tmp_path / "root", (150, 160, 40)
    root.mkdir()
    real_size.write(root, shape)
    sets, small = registry.datasets(), phantom_root(tmp_path / "small", anatomy="liver", seed=0, size="quick")
    for name, count in (("btcv", real_size.TRAINED_ON), ("lits", real_size.TESTED_ON)):
        found, before = sets.get(name)(), sets.get(name)()
        scans = found.discover(root)
        assert len(scans) == count
        assert {scan.id for scan in scans} < {scan.id for scan in before.discover(small)}
        large, before = found.load(scans[-1].id), before.load(scans[-1].id)
        assert large.image.shape == (40, 160, 150)
        assert np.multiply(large.image.shape, large.spacing) == pytest.approx(
            np.multiply(before.image.shape, before.spacing)
        )
        assert large.roi.mean() == pytest.approx(before.roi.mean(), rel=0.02)
        assert large.image[large.roi].mean() == pytest.approx(before.image[before.roi].mean(), abs=5)


def test_a_folder_that_is_there_is_left_alone(tmp_path):
    with pytest.raises(FileExistsError):
        real_size.main([str(tmp_path)])
