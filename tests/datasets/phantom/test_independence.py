"""No method's training synthesis knows how the phantoms make lesions: neither code nor law is shared."""

import ast
import pkgutil

import numpy as np
import pytest
from uasbench.common.source_hash import closure_files
from uasbench.datasets.phantom.lung import make_chest
from uasbench.datasets.phantom.lung_opacities import Burden
from uasbench.datasets.phantom.spec import read_spec
from uasbench.methods import synthesis
from uasbench.methods.synthesis.lung_lesions import LesionRecipe, generate
from uasbench.methods.synthesis.stretched_noise import StretchedNoise
from uasbench.methods.synthesis.stretched_noise_cpu import draw

PHANTOM = "uasbench.datasets.phantom"
SYNTHESES = [f"{synthesis.__name__}.{module.name}" for module in pkgutil.iter_modules(synthesis.__path__)]


def functions(files):
    """The bodies of all functions of some files, docstrings left out, that are longer than one statement."""
    found = {}
    for name, path in files.items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef):
                body = node.body[1:] if ast.get_docstring(node) else node.body
                if len(body) > 1:
                    found.setdefault(ast.dump(ast.Module(body, [])), f"{name}.{node.name}")
    return found


@pytest.mark.parametrize("anatomy", ["liver", "lung", "kidney", "pancreas"])
def test_phantoms_and_syntheses_import_nothing_of_each_other(anatomy):
    phantom = closure_files(f"{PHANTOM}.{anatomy}")
    assert not [name for name in phantom if ".methods" in name]
    for module in SYNTHESES:
        files = closure_files(module)
        assert not [name for name in files if name.startswith(PHANTOM)]
        shared = {name for name in phantom.keys() & files.keys() if not name.startswith("uasbench.common")}
        assert shared <= {"uasbench", "uasbench.datasets", "uasbench.datasets.case"}
        copied = functions(phantom).keys() & functions({n: p for n, p in files.items() if n == module}).keys()
        assert not copied


def cut_units(lesion, inside, units):
    """How much of the touched units lies on the other side of a lesion's border: mean of 4·p·(1 − p) per voxel."""
    cells, position = np.unique(units[inside], return_inverse=True)
    share = np.bincount(position, lesion[inside]) / np.bincount(position)
    own = share[position[lesion[inside]]]
    assert len(cells) > 50
    return float(np.mean(4 * own * (1 - own)))


@pytest.mark.slow
def test_pneumonia_takes_whole_lobules_and_no_synthesis_does():
    spec = read_spec("lung")
    burden = Burden(extent=0.9, count=0.6, kind=0.0, glass=0.5)
    sick, well = (make_chest(spec, spec.size("quick"), 31, style="coronacases", burden=b) for b in (burden, None))
    inside = (sick.labels == 1) | (sick.labels == 2)
    assert cut_units(sick.lesion, inside, sick.lobules) == 0

    rng = np.random.default_rng(0)
    grey = np.clip((well.hu.astype(np.float32) + 1000) / 1200, 0, 1)
    made, blobs = generate(LesionRecipe(radius_scale=0.5), grey[None], inside[None], np.ones(1), rng)
    noise = draw(StretchedNoise(), len(inside), rng, inside.shape[1], fields=False)[0]
    for mask in (blobs[0], noise & inside):
        assert mask.any()
        assert cut_units(mask, inside, sick.lobules) > 0.1

    # Fluid takes the place of air: the denser the tissue was, the less it gains; injected salt does not know.
    vessels = well.vessels & inside
    rise = sick.hu.astype(float) - well.hu
    gained = [rise[sick.lesion & where].mean() for where in (vessels, ~vessels)]
    assert gained[0] < 0.6 * gained[1]
    assert (made[0] - grey)[vessels & blobs[0]].max() > 0
