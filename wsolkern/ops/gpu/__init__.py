"""The operations on a CUDA device: from CAMs to level images and histograms, without a word to the host.

In: torch tensors on one device. Out: torch tensors on the same device, made on its current stream.
Source: every function equals the numpy reference in wsolkern/ops of the same name, to the bit.
"""
