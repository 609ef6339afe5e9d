"""What wsolkern is compared with, and how fast it is: `python -m benchmarks.cpu`, `gpu`, `store` and others.

In: maps of several kinds. Out: tables of times, each measured only after its result was equal to another program's; one
harness for all of them. Beside them: `fuzz` and `digest` (equality alone), `compile_table`, and experiments/.
Source: the published evaluator of Choe et al., arXiv 2007.04178, written again here on OpenCV.
"""
