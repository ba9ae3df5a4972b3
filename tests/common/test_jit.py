import subprocess
import sys

import numpy as np
from uasbench.common.jit import kernel


def test_a_function_without_a_place_for_its_cache_still_compiles():
    scope = {}
    exec("def double(array):\n    for i in range(len(array)):\n        array[i] *= 2\n", scope)
    array = np.arange(3.0)
    kernel(scope["double"])(array)
    np.testing.assert_array_equal(array, [0, 2, 4])


def test_importing_kernels_imports_neither_numba_nor_torch(tmp_path):
    code = (
        "import sys, uasbench.datasets.views.volume_view, uasbench.datasets.storing.store, uasbench.datasets.healthy,"
        "uasbench.benchmark.runs.map_store; print(sorted({'numba', 'torch', 'monai', 'scipy'} & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=True)
    assert found.stdout.strip() == "[]"
