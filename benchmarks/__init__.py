"""What wsolkern is compared with, and how fast it is: `python -m benchmarks`, `python -m benchmarks.fuzz`.

In: maps of several kinds. Out: a table of times, each measured only after its result was equal to OpenCV's.
Source: the published evaluator of Choe et al., arXiv 2007.04178, written again here on OpenCV.
"""
