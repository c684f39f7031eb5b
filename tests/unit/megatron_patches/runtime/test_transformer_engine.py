# SPDX-License-Identifier: Apache-2.0
"""An installed Transformer Engine that cannot be used counts as absent, for Megatron too."""

import importlib.util
import sys
from types import SimpleNamespace

import pytest
import torch

from megatron_patches.kernels.facts import TE, missing_packages
from megatron_patches.runtime import transformer_engine
from tests.distributed.corpus import make_tokenizer
from tests.helpers.commands import run_command

NO_DRIVER = "OSError('libcuda.so.1: cannot open shared object file')"


@pytest.fixture
def package(tmp_path):
    """A package of that name whose import fails as without a driver."""
    (tmp_path / "transformer_engine").mkdir()
    (tmp_path / "transformer_engine/__init__.py").write_text(f"raise {NO_DRIVER}\n")
    (tmp_path / "transformer_engine_torch.py").write_text(f"raise {NO_DRIVER}\n")
    return tmp_path


@pytest.mark.parametrize(
    "words",
    [
        ("pretrain_e2.py", "--help"),
        ("-c", "from e2_tools.corpus.tokenizer import Tokenizer; Tokenizer(None, 1, 9).dtype"),
    ],
)
def test_without_a_driver_commands_run(package, words):
    """And say nothing of what is not there."""
    assert run_command(*words, PYTHONPATH=package, timeout=60).stderr == ""


def test_without_a_driver_a_tokenizer_loads(package, tmp_path):
    program = (
        "import sys; from e2_tools.corpus.tokenizer import HUGGING_FACE, load_megatron_tokenizer; "
        "load_megatron_tokenizer(HUGGING_FACE, sys.argv[1])"
    )
    run_command("-c", program, make_tokenizer(tmp_path), PYTHONPATH=package, timeout=60)


@pytest.fixture
def fresh(monkeypatch):
    """As in a process that has not asked yet."""
    for name in transformer_engine.MODULES:
        monkeypatch.setitem(sys.modules, name, None)  # so that it is gone again afterwards
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(transformer_engine, "_reason", None)
    missing_packages.cache_clear()
    yield
    missing_packages.cache_clear()


def test_an_attention_that_fails_hides_the_package(package, monkeypatch, fresh):
    """As with a cuDNN that does not fit: it loads, and its attention raises."""

    def attention(*args, **kwargs):
        raise RuntimeError("cuDNN Error: CUDNN_STATUS_SUBLIBRARY_LOADING_FAILED\nmore")

    monkeypatch.syspath_prepend(package)
    module = SimpleNamespace(DotProductAttention=attention)
    monkeypatch.setattr(transformer_engine.importlib, "import_module", lambda name: module)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "device", lambda index: torch.no_grad())
    transformer_engine.settle(on_cpu=False)
    reason = (
        "transformer_engine is installed but does not work: "
        "cuDNN Error: CUDNN_STATUS_SUBLIBRARY_LOADING_FAILED"
    )
    assert transformer_engine.reason() == missing_packages(False, False)[TE] == reason
    assert importlib.util.find_spec("transformer_engine") is None
    with pytest.raises(ModuleNotFoundError):
        import transformer_engine.pytorch as pytorch  # noqa: F401


def test_it_can_be_hidden_by_a_variable(package, monkeypatch, fresh):
    monkeypatch.syspath_prepend(package)
    monkeypatch.setenv(transformer_engine.HIDE, "1")
    transformer_engine.settle(on_cpu=False)
    assert "E2_WITHOUT_TRANSFORMER_ENGINE=1" in missing_packages(False, False)[TE]


def test_an_absent_package_needs_no_hiding(fresh):
    if importlib.util.find_spec("transformer_engine"):
        pytest.skip("it is installed")
    transformer_engine.settle(on_cpu=False)
    assert transformer_engine.reason() is None
