"""The boxes of a data set as files: COCO's detections, CSV.

In: a Localizations. Out: texts.
Source: COCO's results format, https://cocodataset.org/#format-results.
"""

import csv
from io import StringIO
from json.encoder import encode_basestring_ascii as _quoted
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from wsolkern.studies.localization import Localizations

_COLUMNS = ("image_id", "class", "x0", "y0", "x1", "y1", "score", "num_contours", "degenerate")


def coco_text(found: "Localizations") -> str:
    """A JSON list of :meth:`Localizations.detections`, a line each; an infinite score is the largest number of all."""
    detections = found.detections()
    scores = np.nan_to_num(np.array([each["score"] for each in detections], np.float64)).tolist()
    lines = [
        f'{{"image_id": {_quoted(each["image_id"])}, "category_id": {each["category_id"]}, '
        f'"bbox": {each["bbox"]}, "score": {score!r}}}'
        for each, score in zip(detections, scores, strict=True)
    ]
    return "[\n" + ",\n".join(lines) + "\n]\n"


def csv_text(found: "Localizations") -> str:
    """A row an image, also of those in which nothing was found: these have no corners, and 0 contours.

    Corners are inclusive, in pixels of the original image; the class is empty where it is not known.
    """
    file = StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(_COLUMNS)
    labels = found.split.class_labels
    is_found = found.num_contours > 0
    columns = found.boxes.tolist(), found.scores.tolist(), found.num_contours.tolist(), found.degenerate.tolist()
    for name, has_box, box, score, number, degenerate in zip(found.image_ids, is_found, *columns, strict=True):
        corners = box if has_box else [""] * 4
        writer.writerow([name, labels[name] if labels else "", *corners, score, number, int(degenerate)])
    return file.getvalue()
