"""Results for people: tables for terminal, Markdown, LaTeX and CSV, curves, pictures of CAMs with their boxes.

In: Results, and for pictures the images and their CAMs. Out: rich tables, texts, PNG files.
Source: Kim et al., arXiv 2107.13221: `paper` has its tables 1 and 2, `pictures` its figure 3, `curves` its figure 5,
`diagnostics` its figures 4 and 6.
"""
