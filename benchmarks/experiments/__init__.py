"""Experiments: what methods and normalizations do, not how fast anything is; durations in them are notes.

In: data sets that are made here. Out: tables of figures.
Source: each names its own.
"""
