"""One step of training or evaluation, run once and written down as a flat list of tensor operations, then as a loop.

Keras's Python costs about a millisecond a step on torch, more than the arithmetic of a small network. So the step is
traced once, gradients and the optimizer's update included, down to torch's own operations. The list is simplified and
becomes a loop over batches in TorchScript, torch's own interpreter, so that no Python runs between the first batch and
the last. The operations write into the very tensors that Keras's variables hold.

What only a running step knows, such as a branch on a tensor, cannot be written down: `UntraceableError`.
"""
