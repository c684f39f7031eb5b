# SPDX-License-Identifier: Apache-2.0
"""The streaming writer makes the files that the library makes."""

import pytest
import torch
from safetensors.torch import load_file, save_file

from e2_tools.checkpoint.safetensors_stream import SafetensorsStream


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_the_file_is_the_librarys_byte_for_byte(tmp_path, dtype):
    shapes = {"z": (3, 5), "a.weight": (7,), "ä": (2, 1, 4), "m": (1,)}
    tensors = {name: torch.randn(shape).to(dtype) for name, shape in shapes.items()}
    save_file(tensors, tmp_path / "library", metadata={"format": "pt"})
    with SafetensorsStream(tmp_path / "stream", shapes, dtype) as stream:
        for name in shapes:  # not in the order of the file
            stream.write(name, tensors[name])
    assert (tmp_path / "stream").read_bytes() == (tmp_path / "library").read_bytes()
    assert torch.equal(load_file(tmp_path / "stream")["z"], tensors["z"])


def test_views_are_written_as_they_look(tmp_path):
    tensor = torch.arange(12.0).view(3, 4).t()[1:]
    with SafetensorsStream(tmp_path / "file", {"t": (3, 3)}, torch.float32) as stream:
        stream.write("t", tensor)
    assert torch.equal(load_file(tmp_path / "file")["t"], tensor)


def test_what_was_not_announced_is_refused(tmp_path):
    def stream():
        return SafetensorsStream(tmp_path / "file", {"t": (2,)}, torch.float32)

    with stream() as file:
        file.write("t", torch.ones(2))
        for name, tensor in (("t", torch.ones(2)), ("u", torch.ones(2))):
            with pytest.raises(ValueError, match="not announced"):
                file.write(name, tensor)
    for tensor in (torch.ones(3), torch.ones(2).bfloat16()):
        with pytest.raises(ValueError, match="not announced"), stream() as file:
            file.write("t", tensor)
    with pytest.raises(ValueError, match="not written: t"), stream():
        pass
