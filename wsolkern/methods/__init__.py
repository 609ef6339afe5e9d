"""The training-side parts of the WSOL methods: has, acol, spg, adl, cutmix, and thresholded pooling (tap).

In: batches of images, features or maps, a method's hyper-parameters. Out: the hidden, mixed or erased batch; losses.
Source: each module names its paper; defaults: clovaai/wsolevaluation (MIT), config.py.
"""
