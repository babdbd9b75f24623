"""Compiled code: that it is built, found, recognised, and done without."""

import json
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

from nacs import native
from nacs.native import build

compiled = pytest.mark.skipif(native.level() == "off", reason="nothing is compiled")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty folder where libraries are looked for, and a loader that knows none."""
    monkeypatch.setattr(native, "HERE", tmp_path)
    monkeypatch.delenv(native.WISH, raising=False)
    forget()
    yield tmp_path
    forget()


def forget():
    native.level.cache_clear()
    native.library.cache_clear()


def copied(folder):
    for path in (*build.HERE.glob("*.so"), build.HERE / "built.json"):
        shutil.copy(path, folder)


def test_without_libraries_torch_does_the_work(folder):
    assert native.level() == "off"
    assert native.library() is None


@compiled
def test_libraries_are_found(folder):
    copied(folder)
    assert native.level() != "off"
    assert native.library().select_f32


@compiled
@pytest.mark.parametrize("how", ["cut short", "other bytes", "not a library", "gone"])
def test_a_damaged_library_is_not_used(folder, how):
    copied(folder)
    listed = folder / "built.json"
    built = json.loads(listed.read_text())
    for path in folder.glob("*.so"):
        content = path.read_bytes()
        if how == "cut short":
            path.write_bytes(content[: len(content) // 2])
        elif how == "other bytes":
            path.write_bytes(content[:-9] + b"different")
        elif how == "gone":
            path.unlink()
        else:
            path.write_bytes(b"text")
            built["libraries"][path.name] = build.digest(b"text")
    listed.write_text(json.dumps(built))
    with pytest.warns(UserWarning, match="works without its compiled code"):
        assert native.level() == "off"
    assert native.library() is None


@compiled
@pytest.mark.parametrize("text", ["", "[]", "{}", "old"])
def test_a_library_of_other_sources_is_not_used(folder, text):
    copied(folder)
    listed = folder / "built.json"
    other = {**json.loads(listed.read_text()), "sources": "old"}
    listed.write_text(json.dumps(other) if text == "old" else text)
    with pytest.warns(UserWarning, match=r"python -m nacs\.native"):
        assert native.level() == "off"


@compiled
def test_it_can_be_turned_off_or_told_which(folder, monkeypatch):
    copied(folder)
    monkeypatch.setenv(native.WISH, "off")
    assert native.level() == "off"
    forget()
    monkeypatch.setenv(native.WISH, "plain")
    assert native.level() == "plain"
    forget()
    monkeypatch.setenv(native.WISH, "fast")
    with pytest.raises(ValueError, match="must be off or one of avx512, avx2, plain"):
        native.level()


def test_a_wish_that_cannot_be_met_is_told(folder, monkeypatch):
    monkeypatch.setenv(native.WISH, "plain")
    with pytest.warns(UserWarning, match="it was not built"):
        assert native.level() == "off"


@compiled
def test_no_instruction_is_used_that_the_processor_lacks(folder, monkeypatch):
    """It would end the process."""
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "DEFAULT")
    copied(folder)
    assert native.level() == "plain"
    forget()
    monkeypatch.setenv(native.WISH, "avx512")
    with pytest.warns(UserWarning, match="this processor has no avx512"):
        assert native.level() == "off"


def test_the_environment_variable_counts():
    code = "from nacs import native; print(native.level())"
    found = subprocess.run(
        [sys.executable, "-c", code],
        env={"NACS_NATIVE": "off", "PYTHONPATH": str(Path(*build.HERE.parts[:-2]))},
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout.strip() == "off"


def test_no_compiler_is_no_error(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(build, "compiler", lambda: None)
    assert build.build(tmp_path) == []
    assert "no C compiler" in capsys.readouterr().err
    monkeypatch.setattr(build, "compiler", lambda: ["false"])
    assert build.build(tmp_path) == []
    assert "avx512 was not compiled" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_the_compiler_is_looked_for(monkeypatch):
    monkeypatch.setenv("CC", "ccache own-cc -m64")
    there = {"ccache"}
    monkeypatch.setattr(shutil, "which", lambda name: name if name in there else None)
    assert build.compiler() == ["ccache", "own-cc", "-m64"]
    there = {"clang"}
    assert build.compiler() == ["clang"]
    there = set()
    assert build.compiler() is None


@pytest.mark.slow  # `make setup` does the same, and the tests use what it built
@pytest.mark.skipif(build.compiler() is None, reason="there is no compiler")
def test_what_is_built_is_what_is_loaded(folder):
    made = build.build(folder)
    assert {path.name for path in made} == {path.name for path in folder.iterdir()}
    assert native.level() != "off"


@pytest.mark.parametrize("found", [True, False])
def test_the_hook_names_the_platform_only_with_libraries(found, monkeypatch):
    """hatchling itself is only where wheels are built: a stand-in for its class."""
    stand_in = type(sys)("plugin")
    stand_in.BuildHookInterface = object
    monkeypatch.setitem(
        sys.modules, "hatchling.builders.hooks.plugin.interface", stand_in
    )
    root = Path(*build.HERE.parts[:-3])
    hook = runpy.run_path(str(root / "hatch_build.py"))["NativeHook"]
    made = [build.HERE / "plain.so"] if found else []
    monkeypatch.setattr(runpy, "run_path", lambda path: {"build": lambda: made})
    one = hook()
    one.root, data = str(root), {"artifacts": [], "pure_python": True}
    one.initialize("standard", data)
    assert data["pure_python"] is not found
    assert bool(data["artifacts"]) is found
    assert data.get("tag", "none").startswith("py3-none-") is found


def levels():
    """Instruction sets that are compiled and that this processor has."""
    built = {path.stem for path in build.HERE.glob("*.so")}
    return [name for name in native._supported() if name in built]


@compiled
@pytest.mark.parametrize("name", levels())
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_every_instruction_set_selects_the_same(name, dtype, monkeypatch):
    from nacs.native.calls import select

    # Whole numbers: no rounding, so no order of summation can change a score.
    queries, keys = torch.randint(-8, 9, (2, 2, 3, 700, 5)).to(dtype)
    keep = torch.rand(2, 700) > 0.3
    scores = (queries @ keys.mT).masked_fill(~keep[:, None, None], -torch.inf)
    monkeypatch.setenv(native.WISH, name)
    forget()
    assert native.level() == name
    for causal in (False, True):
        seen = scores
        if causal:
            seen = scores.masked_fill(~torch.ones(700, 700).tril().bool(), -torch.inf)
        chosen, alive = select(queries, keys, keep, 6, causal, 0, 0)
        best = seen.gather(-1, chosen).masked_fill(~alive, -torch.inf)
        assert_close(best.sort().values, seen.topk(6).values.sort().values)
    forget()


@compiled
@pytest.mark.parametrize("name", levels())
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_every_instruction_set_gates_the_same(name, dtype, monkeypatch):
    from nacs.native.modulate import geglu, plain_geglu

    wide, d_out = 3 * torch.randn(2, 3, 74).to(dtype), torch.randn(2, 3, 37).to(dtype)
    scale = torch.randn(3, 37, dtype=torch.promote_types(dtype, torch.float32))
    monkeypatch.setenv(native.WISH, name)
    forget()
    assert native.level() == name
    inputs = [wide.requires_grad_(), scale.requires_grad_()]
    exact = [each.detach().double().requires_grad_() for each in inputs]
    out, wanted = geglu(*inputs), plain_geglu(*exact)
    found = [out, *torch.autograd.grad(out, inputs, d_out)]
    slopes = torch.autograd.grad(wanted, exact, d_out.double())
    off = {torch.float32: 1e-5, torch.float64: 1e-12, torch.bfloat16: 2**-7}[dtype]
    for each, other in zip(found, (wanted, *slopes), strict=True):
        assert_close(each.double(), other, rtol=off, atol=off / 10)
    forget()


@compiled
@pytest.mark.parametrize("name", levels())
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_every_instruction_set_weighs_the_same(name, dtype, monkeypatch):
    from nacs.native.gate import gate, plain_gate

    shapes = [(2, 3, 4, 37)] * 2 + [(2, 4, 37)] * 2 + [(2, 3, 4)] * 2
    inputs = [torch.randn(shape, dtype=dtype) for shape in shapes]
    exact = [each.double() for each in inputs]
    monkeypatch.setenv(native.WISH, name)
    forget()
    assert native.level() == name
    gate(*inputs, 0.3)
    plain_gate(*exact, 0.3)
    off = {torch.float32: 1e-5, torch.float64: 1e-12}[dtype]
    for each, other in zip(inputs, exact, strict=True):
        assert_close(each.double(), other, rtol=off, atol=off / 10)
    forget()


FUNCTIONS = {
    0: (torch.exp, -80, 80),
    1: (torch.expm1, -80, 80),
    2: (torch.log1p, 0, 1e8),
    3: (torch.sigmoid, -80, 80),
    4: (torch.nn.functional.softplus, -80, 80),
    5: (torch.nn.functional.silu, -80, 80),
}
WORST = 2.5
"""Units in the last place by which a function may miss; the worst found is 2.01."""


@compiled
@pytest.mark.parametrize("name", levels())
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("which", FUNCTIONS)
def test_functions_are_right_to_a_few_units_in_the_last_place(
    name, dtype, which, monkeypatch
):
    import ctypes

    monkeypatch.setenv(native.WISH, name)
    forget()
    function, low, high = FUNCTIONS[which]
    near = torch.logspace(-9, 0, 5000)
    x = torch.cat([torch.linspace(low, high, 9984), near, near[:96] * low / 80])
    x = torch.cat([x, x[:8] * 0]).to(dtype)[: 15000 // 16 * 16].contiguous()
    found, suffix = torch.empty_like(x), {4: "f32", 8: "f64"}[x.element_size()]
    lanes = {"avx512": 64, "avx2": 32, "plain": 16}[name] // x.element_size()
    getattr(native.library(), f"apply_{suffix}")(
        ctypes.c_int64(which),
        ctypes.c_void_p(x.data_ptr()),
        ctypes.c_void_p(found.data_ptr()),
        ctypes.c_int64(len(x) // lanes),
    )
    wanted = function(x.to(torch.float64) if dtype is torch.float32 else x)
    unit = torch.finfo(dtype).eps * wanted.abs().clamp(min=torch.finfo(dtype).tiny)
    assert ((found - wanted).abs() / unit).max() < WORST
    forget()


@compiled
@pytest.mark.parametrize("name", levels())
def test_every_instruction_set_attends_the_same(name, monkeypatch):
    from nacs.neuronal import NeuronalAttention, NeuronalConfig

    layer = NeuronalAttention(NeuronalConfig(width=36, heads=3, horizon="elapsed"))
    tokens, times = torch.randn(2, 50, 36), torch.rand(2, 50).cumsum(1)
    found = []
    for wish in ("off", name):
        monkeypatch.setenv(native.WISH, wish)
        forget()
        assert native.level() == wish
        layer.zero_grad()
        out = layer(tokens, query_times=times)[0]
        out.square().sum().backward()
        found.append([out, *(p.grad for p in layer.parameters())])
    for each, wanted in zip(*found, strict=True):
        assert_close(each, wanted, rtol=1e-10, atol=1e-10)  # another order of sums
    forget()
