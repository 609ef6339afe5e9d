"""What is taken where nothing else is said, by the library and by every command.

In: nothing. Out: constants; nothing is imported for them, so that help texts may name them.
Source: the paper's four normalizations: Kim et al., arXiv 2107.13221, table 1; figure 5 (percentiles of IVR).
"""

NORMALIZATIONS = "minmax max pas:0.9 ivr:0.45"
CANDIDATES = "minmax max pas:0.9 ivr:0.00..0.95/0.05"  # what percentiles are chosen from
IOU_THRESHOLDS = (0.3, 0.5, 0.7)
SIZE = (224, 224)  # height and width in pixels
