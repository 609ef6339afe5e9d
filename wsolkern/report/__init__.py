"""Results for people: tables for terminal and Markdown, pictures of CAMs with their boxes.

In: a Result, and for pictures the images and their CAMs. Out: rich tables, Markdown text, PNG files.
Source: the layout of the pictures is that of figure 3 in Kim et al., arXiv 2107.13221.
"""
