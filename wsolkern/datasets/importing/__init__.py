"""Data sets from where they are: COCO, CSV, VOC, class folders, CUB, ILSVRC, OpenImages to the field's layout.

In: annotation files as they were published or made, images. Out: `metadata/<data set>/<split>/*.txt`, mask files, and
what was dropped and why.
Source: the file layout of Choe et al., arXiv 2007.04178; each source's own format is named in its module.
"""

from wsolkern.datasets.importing.assembly import Choices, Imported
from wsolkern.datasets.importing.class_folders import import_imagefolder
from wsolkern.datasets.importing.coco import import_coco
from wsolkern.datasets.importing.csv_table import import_csv
from wsolkern.datasets.importing.cub import import_cub
from wsolkern.datasets.importing.ilsvrc import import_ilsvrc
from wsolkern.datasets.importing.open_images import import_openimages
from wsolkern.datasets.importing.voc import import_voc

__all__ = [
    "Choices",
    "Imported",
    "import_coco",
    "import_csv",
    "import_cub",
    "import_ilsvrc",
    "import_imagefolder",
    "import_openimages",
    "import_voc",
]
