# SPDX-License-Identifier: Apache-2.0
"""The GPUs whose speed and links are known."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Gpu:
    """A GPU whose speed is known.

    Attributes:
        name: as ``--gpu`` takes it.
        torch_names: what ``torch.cuda.get_device_name`` says.
        peak: dense bf16, FLOP/s.
        memory: bytes that torch sees.
        link: to GPUs of the node, bytes/s in one direction.
        network: to other nodes, bytes/s in one direction.
        source: of peak and links.
    """

    name: str
    torch_names: tuple[str, ...]
    peak: float
    memory: int
    link: float
    network: float
    source: str


# Networks are those of NVIDIA's DGX of that generation: one 200 or 400 Gbit/s port for each GPU.
GPUS = {
    gpu.name: gpu
    for gpu in (
        Gpu(
            "A100-80GB",
            ("NVIDIA A100-SXM4-80GB", "A100-SXM4-80GB"),
            312e12,
            int(79.1 * 2**30),
            300e9,
            25e9,
            "NVIDIA A100 datasheet: 312 TFLOP/s, NVLink 600 GB/s both ways; DGX: 200 Gbit/s",
        ),
        Gpu(
            "H100",
            ("NVIDIA H100 80GB HBM3",),
            989e12,
            int(79.1 * 2**30),
            450e9,
            50e9,
            "NVIDIA H100 SXM datasheet: 989 TFLOP/s, NVLink 900 GB/s both ways; DGX: 400 Gbit/s",
        ),
        Gpu(
            "H200",
            ("NVIDIA H200",),
            989e12,
            int(139.7 * 2**30),
            450e9,
            50e9,
            "NVIDIA H200 SXM datasheet: 989 TFLOP/s, NVLink 900 GB/s both ways; DGX: 400 Gbit/s",
        ),
    )
}


def known_gpu(torch_name: str) -> Gpu | None:
    """The GPU that torch calls so; None if its speed is not known here."""
    return next((gpu for gpu in GPUS.values() if torch_name in gpu.torch_names), None)
