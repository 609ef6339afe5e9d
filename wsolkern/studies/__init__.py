"""What a paper's numbers are made by: each study is a function that takes values and gives a value.

In: maps on disk, a split's Metadata, settings. Out: values with ``to_dict()``; progress is a callback, nothing prints.
Source: the protocol of Choe et al., arXiv 2007.04178, section 4; tables and figures of Kim et al., arXiv 2107.13221.
"""
