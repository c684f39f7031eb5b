# SPDX-License-Identifier: Apache-2.0
"""Counts the bytes of tensors that a training step holds, by part, as torch sees them."""

import torch


class Held:
    """A tensor that autograd keeps; every storage counts once, parameters not."""

    live, peak, counts, ignored = 0, 0, {}, frozenset()

    def __init__(self, tensor):
        self.tensor = tensor
        self.key = tensor.untyped_storage().data_ptr()
        if self.key in Held.ignored:
            self.key = None
            return
        Held.counts[self.key] = Held.counts.get(self.key, 0) + 1
        if Held.counts[self.key] == 1:
            Held.live += tensor.untyped_storage().nbytes()
            Held.peak = max(Held.peak, Held.live)

    def __del__(self):
        if self.key is None:
            return
        Held.counts[self.key] -= 1
        if not Held.counts[self.key]:
            Held.live -= self.tensor.untyped_storage().nbytes()

    @classmethod
    def start(cls, parameters):
        cls.live, cls.peak, cls.counts = 0, 0, {}
        cls.ignored = frozenset(p.untyped_storage().data_ptr() for p in parameters)


def measured_step(original, record, forward_step, data_iterator, model, optimizer, *args, **kwargs):
    """Run ``train_step``; put what is held after it, and at most during it, in ``record``."""
    parameters = [p for chunk in model for p in chunk.parameters()]
    Held.start(parameters)
    with torch.autograd.graph.saved_tensors_hooks(Held, lambda held: held.tensor):
        result = original(forward_step, data_iterator, model, optimizer, *args, **kwargs)
    own = {p.untyped_storage().data_ptr() for p in parameters}
    main, states = {}, 0
    for part in getattr(optimizer, "chained_optimizers", [optimizer]):
        for parameter, state in part.optimizer.state.items():
            storage = parameter.untyped_storage()
            if storage.data_ptr() not in own:
                main[storage.data_ptr()] = storage.nbytes()
            states += sum(  # all but the step, 4 bytes a parameter
                value.nbytes for value in state.values() if torch.is_tensor(value) and value.dim()
            )
    weights = {p.untyped_storage().data_ptr(): p.untyped_storage().nbytes() for p in parameters}
    record["memory"] = {
        "weights": sum(weights.values()),
        "gradients": sum(b.grad_data.nbytes for chunk in model for b in chunk.buffers),
        "main parameters": sum(main.values()),
        "optimizer states": states,
        "activations": Held.peak,
    }
    return result
