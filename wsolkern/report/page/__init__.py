"""Page: a report as one HTML file that opens from disk: tables, figures and a live threshold viewer.

In: a Page: raw CAMs, ground truth, what was counted of every image, sections of finished HTML. Out: the file's text.
Source: the viewer's boxes are those of MaxBoxAcc and MaxBoxAccV2, Choe et al., arXiv 2007.04178, section 4.2.
"""

from wsolkern.report.page.values import Page, Run, Section, View

__all__ = ["Page", "Run", "Section", "View"]
