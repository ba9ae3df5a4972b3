import pytest
from hypothesis import given
from hypothesis import strategies as st
from uasbench.common.errors import DataError
from uasbench.datasets.patients import ChosenCases, join_twins, overlapping
from uasbench.datasets.reading.side_tables import natural_key, patients_of

A, B, C = (tuple(f"{name}{z}" for z in range(8)) for name in "abc")
"""Hashes of the slices of three scans."""


def _keys(*cases):
    return {("lits", case): case for case in cases}


def test_natural_order():
    assert sorted(["volume-10", "volume-2", "a", "1"], key=natural_key) == ["1", "a", "volume-2", "volume-10"]


def test_no_text_breaks_the_natural_order():
    names = ["²", "9" * 5000, "a10", "a2", "٣", ""]
    assert sorted(names, key=natural_key).index("a2") < sorted(names, key=natural_key).index("a10")


def test_patients_csv(tmp_path):
    assert patients_of(tmp_path, "lits", ["a"]) == ({"a": "a"}, [])
    (tmp_path / "patients.csv").write_text(
        "\ufeffset, case,patient,remark\nlits,volume-0,p1,x\n\nlits,volume-1, p1 ,\nbtcv,img0001,p2,\n"
    )
    patients, warnings = patients_of(tmp_path, "lits", ["volume-0", "volume-2"])
    assert patients == {"volume-0": "p1", "volume-2": "volume-2"}
    assert "'volume-1' of set 'lits' is not among the cases found; did you mean 'volume-2'?" in warnings[0]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("set,case\nlits,a\n", "no column patient"),
        ("", "no column set, case, patient .found: nothing"),
        ("set,case,patient\nlits,a\n", "line 2: empty field patient"),
        ("set,case,patient\nbtcv,a,p\nbtcv,a,q\n", "'a' of set 'btcv' is given to two patients, 'p' and 'q'"),
        ("set,case,patient\nlits,a,\xe4\n", "UTF-8"),
    ],
)
def test_bad_tables_are_refused(tmp_path, text, words):
    (tmp_path / "patients.csv").write_bytes(text.encode("latin-1"))
    with pytest.raises(DataError, match=words):
        patients_of(tmp_path, "lits", ["a"])


def test_cases_are_chosen_and_left_out():
    chosen = ChosenCases.of(
        ["lits:volume-2", "lits:volume-1", "lits:volume-0"], ["lits:volume-1", "btcv:img0001", "lits:volume-2"]
    )
    assert chosen.sets == {"lits", "btcv"}
    assert chosen.of_set("lits", ["volume-0", "volume-1", "volume-2", "volume-3"]) == (["volume-0"], [])
    assert chosen.of_set("luna16", ["a"]) == (["a"], [])
    with pytest.raises(DataError, match=r"--only lits:volume-0: .* did you mean 'volume-10'"):
        chosen.of_set("lits", ["volume-10", "volume-1", "volume-2"])
    with pytest.raises(DataError, match="--exclude lits:volume-2: set 'lits' has no such case"):
        ChosenCases.of([], ["lits:volume-2"]).of_set("lits", ["a"])
    with pytest.raises(DataError, match="leaves no case of set 'btcv'"):
        chosen.of_set("btcv", ["img0001"])
    for bad in ("volume-1", ":volume-1", "lits:"):
        with pytest.raises(DataError, match=r"--exclude .*: expected SET:ID"):
            ChosenCases.of([], [bad])
        with pytest.raises(DataError, match=r"--only .*: expected SET:ID"):
            ChosenCases.of([bad])


@pytest.mark.parametrize(
    ("has", "kept", "warning"),
    [
        (["volume-1", "volume-2", "volume-3"], ["volume-1", "volume-2"], None),
        (["volume-0", "volume-2"], ["volume-2"], "WARNING lits: the phantom has no volume-1; used: volume-2"),
        (["a", "b"], ["a", "b"], "no volume-1, volume-2; used: all of its cases, and --only is void"),
    ],
)
def test_a_phantom_is_restricted_to_what_it_has(has, kept, warning):
    found, warnings = ChosenCases.of(["lits:volume-1", "lits:volume-2"], phantom=True).of_set("lits", has)
    assert found == kept
    assert [warning in text for text in warnings] == ([] if warning is None else [True])
    with pytest.raises(DataError, match="--exclude lits:c"):
        ChosenCases.of([], ["lits:c"], phantom=True).of_set("lits", has)


def test_shared_slices_make_one_patient_and_identical_volumes_are_refused():
    hashes = {("lits", "a"): A, ("lits", "b"): (*A[:3], *B[3:]), ("lits", "c"): C}
    patients, (warning,) = join_twins(hashes, _keys("a", "b", "c"))
    assert patients[("lits", "a")] == patients[("lits", "b")] != patients[("lits", "c")]
    assert "share 3 slices" in warning
    with pytest.raises(DataError, match=r"btcv:b and lits:a are the same volume"):
        join_twins({("lits", "a"): A, ("btcv", "b"): A}, {("lits", "a"): "a", ("btcv", "b"): "b"})


def test_a_volume_in_two_sets_that_are_known_to_share_patients_is_no_mistake():
    hashes = {("luna16", "1.2"): A, ("lidc", "1.2"): A, ("lidc", "1.3"): B}
    named = {("luna16", "1.2"): "anna", ("lidc", "1.2"): "anna", ("lidc", "1.3"): "1.3"}
    assert join_twins(hashes, named) == (named, [])
    with pytest.raises(DataError, match="are the same volume"):  # in one set it is
        join_twins({**hashes, ("lidc", "1.4"): A}, {**named, ("lidc", "1.4"): "anna"})
    with pytest.raises(DataError, match="are the same volume"):  # a name like the case's holds inside its set alone
        join_twins(hashes, {key: key[1] for key in named})


@pytest.mark.parametrize("shared", [1, 2])
def test_one_or_two_shared_slices_or_constant_ones_prove_nothing(shared):
    constant = ("",) * 4
    hashes = {("lits", "a"): A[:4] + constant, ("lits", "b"): A[:shared] + B[shared:4] + constant}
    patients = _keys("a", "b")
    assert join_twins(hashes, patients) == (patients, [])


def test_named_patients_keep_their_name_and_stay_silent():
    hashes = {("lits", "a"): A, ("lits", "b"): A[:4] + B[4:]}
    named = {("lits", "a"): "p1", ("lits", "b"): "p1"}
    assert join_twins(hashes, named) == (named, [])
    assert join_twins(hashes, {("lits", "a"): "a", ("lits", "b"): "p1"})[0] == named


def test_joining_is_transitive_and_independent_of_order():
    hashes = {("lits", "a"): A, ("lits", "b"): A[:3] + B[3:], ("lits", "c"): C[:5] + B[5:], ("lits", "d"): ("d",) * 4}
    forward, _ = join_twins(hashes, _keys("a", "b", "c", "d"))
    assert forward == join_twins(dict(reversed(hashes.items())), _keys("d", "c", "b", "a"))[0]
    assert len(set(forward.values())) == 2


def test_a_tested_patient_or_scan_among_the_healthy_is_dropped():
    train = {("btcv", "img0001"): "p1", ("btcv", "img0002"): "img0002"}
    test = {("lits", "volume-0"): "p1", ("lits", "img0002"): "img0002"}
    dropped = overlapping(train, test)
    assert list(dropped) == [("btcv", "img0001")]
    assert "left out of training" in dropped[("btcv", "img0001")]
    hashes = {("btcv", "x"): A, ("lits", "y"): A[:4] + B[4:], ("lits", "z"): C}
    joined, _ = join_twins(hashes, {("btcv", "x"): "x", ("lits", "y"): "y", ("lits", "z"): "z"})
    train, test = ({k: v for k, v in joined.items() if k[0] == name} for name in ("btcv", "lits"))
    assert list(overlapping(train, test)) == [("btcv", "x")]
    both = {("own", "a"): "a", ("own", "b"): "b"}
    assert set(overlapping(both, {("own", "a"): "a"})) == {("own", "a")}


@given(st.dictionaries(st.sampled_from("abcdefgh"), st.sampled_from(["p", "q", "a", "b"]), min_size=1))
def test_joining_without_shared_slices_changes_no_grouping(named):
    patients = {("lits", case): patient for case, patient in named.items()}
    hashes = {key: tuple(f"{key[1]}{z}" for z in range(8)) for key in patients}
    assert join_twins(hashes, patients)[0] == patients
