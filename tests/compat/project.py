"""A project that evaluates as the published code does, in words of its own, as files; ``known`` makes it the published.

In: nothing. Out: the text of each file, which tests change as forks do.
Source: Choe et al., arXiv 2007.04178; names and signatures of its evaluator.
"""

from wsolkern.compat import published

UTIL = """
import numpy as np


class Logger:
    pass


def t2n(t):
    return t.detach().cpu().numpy().astype(np.float64)


def check_scoremap_validity(scoremap):
    if not isinstance(scoremap, np.ndarray) or scoremap.dtype != np.float64:
        raise TypeError("float64 array")
    if scoremap.ndim != 2 or not ((scoremap >= 0) & (scoremap <= 1)).all():
        raise ValueError("values")


def check_box_convention(boxes, convention):
    rows = np.atleast_2d(boxes)
    if (rows < 0).any() or rows.shape[1] != 4:
        raise RuntimeError("boxes")
    if convention == "x0y0x1y1" and (rows[:, 2:] < rows[:, :2]).any():
        raise RuntimeError("order of corners")
"""

DATA_LOADERS = """
import os


class Paths(dict):
    __getattr__ = dict.__getitem__


def configure_metadata(metadata_root):
    names = ("image_ids", "image_ids_proxy", "class_labels", "image_sizes", "localization")
    return Paths({name: os.path.join(metadata_root, name + ".txt") for name in names})


def lines(path):
    with open(path) as file:
        return [line.strip("\\n").split(",") for line in file]


def get_image_ids(metadata, proxy=False):
    return [line[0] for line in lines(metadata["image_ids_proxy" if proxy else "image_ids"])]


def get_class_labels(metadata):
    return {image_id: int(label) for image_id, label in lines(metadata.class_labels)}


def get_bounding_boxes(metadata):
    boxes = {}
    for image_id, *corners in lines(metadata.localization):
        boxes.setdefault(image_id, []).append(tuple(map(int, corners)))
    return boxes


def get_mask_paths(metadata):
    masks, ignored = {}, {}
    for image_id, mask, ignore in lines(metadata.localization):
        masks.setdefault(image_id, []).append(mask)
        ignored.setdefault(image_id, ignore)
    return masks, ignored


def get_image_sizes(metadata):
    return {image_id: (int(width), int(height)) for image_id, width, height in lines(metadata.image_sizes)}
"""

EVALUATION = """
import os

import cv2
import numpy as np
from data_loaders import configure_metadata, get_bounding_boxes, get_image_ids, get_image_sizes, get_mask_paths
from torch.utils.data import Dataset
from util import check_box_convention, check_scoremap_validity, t2n

_RESIZE_LENGTH = 224


def calculate_multiple_iou(box_a, box_b):
    check_box_convention(box_a, "x0y0x1y1")
    check_box_convention(box_b, "x0y0x1y1")
    ious = np.zeros((len(box_a), len(box_b)))
    for i, a in enumerate(box_a):
        for j, b in enumerate(box_b):
            width = max(0, min(a[2], b[2]) - max(a[0], b[0]) + 1)
            height = max(0, min(a[3], b[3]) - max(a[1], b[1]) + 1)
            areas = sum((c[2] - c[0] + 1) * (c[3] - c[1] + 1) for c in (a, b))
            ious[i, j] = width * height / (areas - width * height)
    return ious


def resize_bbox(box, image_size, resize_size):
    check_box_convention(np.array(box), "x0y0x1y1")
    return tuple(int(float(c) * float(n) / float(o)) for c, n, o in zip(box, resize_size * 2, image_size * 2))


def compute_bboxes_from_scoremaps(scoremap, scoremap_threshold_list, multi_contour_eval=False):
    check_scoremap_validity(scoremap)
    height, width = scoremap.shape
    image = (scoremap * 255).astype(np.uint8)
    boxes = []
    for threshold in scoremap_threshold_list:
        _, binary = cv2.threshold(image, int(threshold * np.max(image)), 255, cv2.THRESH_BINARY)
        contours = cv2.findContours(binary, cv2.RETR_TREE, cv2.CHAIN_APPROX_SIMPLE)[0]
        if contours and not multi_contour_eval:
            contours = [max(contours, key=cv2.contourArea)]
        rects = map(cv2.boundingRect, contours)
        found = [(x, y, min(x + w, width - 1), min(y + h, height - 1)) for x, y, w, h in rects]
        boxes.append(np.array(found or [(0, 0, 0, 0)]))
    return boxes, [len(each) for each in boxes]


class LocalizationEvaluator:
    def __init__(self, metadata, dataset_name, split, cam_threshold_list, iou_threshold_list, mask_root,
                 multi_contour_eval):
        self.metadata, self.dataset_name, self.split, self.mask_root = metadata, dataset_name, split, mask_root
        self.cam_threshold_list, self.iou_threshold_list = cam_threshold_list, iou_threshold_list
        self.multi_contour_eval = multi_contour_eval

    def accumulate(self, scoremap, image_id):
        raise NotImplementedError

    def compute(self):
        raise NotImplementedError


class BoxEvaluator(LocalizationEvaluator):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.image_ids = get_image_ids(metadata=self.metadata)
        self.resize_length = _RESIZE_LENGTH
        self.cnt = 0
        self.num_correct = {iou: np.zeros(len(self.cam_threshold_list)) for iou in self.iou_threshold_list}
        self.original_bboxes = get_bounding_boxes(self.metadata)
        self.image_sizes = get_image_sizes(self.metadata)
        self.gt_bboxes = self._load_resized_boxes(self.original_bboxes)

    def _load_resized_boxes(self, original_bboxes):
        size = (self.resize_length, self.resize_length)
        return {i: [resize_bbox(box, self.image_sizes[i], size) for box in original_bboxes[i]] for i in self.image_ids}

    def accumulate(self, scoremap, image_id):
        boxes, counts = compute_bboxes_from_scoremaps(
            scoremap=scoremap, scoremap_threshold_list=self.cam_threshold_list,
            multi_contour_eval=self.multi_contour_eval)
        truth = np.array(self.gt_bboxes[image_id])
        best = np.array([calculate_multiple_iou(each, truth).max() for each in boxes])
        for iou in self.iou_threshold_list:
            self.num_correct[iou] += best >= iou / 100
        self.cnt += 1

    def compute(self):
        return [(self.num_correct[iou] * 100.0 / self.cnt).max() for iou in self.iou_threshold_list]


def load_mask_image(file_path, resize_size):
    image = np.float32(cv2.imread(file_path, cv2.IMREAD_GRAYSCALE))
    return cv2.resize(image, resize_size, interpolation=cv2.INTER_NEAREST)


def get_mask(mask_root, mask_paths, ignore_path):
    size = (_RESIZE_LENGTH, _RESIZE_LENGTH)
    objects = np.any([load_mask_image(os.path.join(mask_root, each), size) > 0.5 for each in mask_paths], axis=0)
    ignored = load_mask_image(os.path.join(mask_root, ignore_path), size) > 0.5
    return np.where(objects, 1, np.where(ignored, 255, 0)).astype(np.uint8)


class MaskEvaluator(LocalizationEvaluator):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.mask_paths, self.ignore_paths = get_mask_paths(self.metadata)
        self.threshold_list_right_edge = np.append(self.cam_threshold_list, [1.0, 2.0, 3.0])
        self.gt_true_score_hist = np.zeros(len(self.cam_threshold_list) + 2)
        self.gt_false_score_hist = np.zeros(len(self.cam_threshold_list) + 2)

    def accumulate(self, scoremap, image_id):
        check_scoremap_validity(scoremap)
        mask = get_mask(self.mask_root, self.mask_paths[image_id], self.ignore_paths[image_id])
        self.gt_true_score_hist += np.histogram(scoremap[mask == 1], bins=self.threshold_list_right_edge)[0]
        self.gt_false_score_hist += np.histogram(scoremap[mask == 0], bins=self.threshold_list_right_edge)[0]

    def compute(self):
        tp, fp = self.gt_true_score_hist[::-1].cumsum(), self.gt_false_score_hist[::-1].cumsum()
        some = (tp + fp) != 0
        with np.errstate(invalid="ignore"):
            precision = tp / (tp + fp)
        auc = (precision[1:] * np.diff(tp / self.gt_true_score_hist.sum()))[some[1:]].sum()
        auc *= 100
        print("Mask AUC on split {}: {}".format(self.split, auc))
        return auc


class CamDataset(Dataset):
    def __init__(self, scoremap_path, image_ids):
        self.scoremap_path, self.image_ids = scoremap_path, image_ids

    def _load_cam(self, image_id):
        return np.load(os.path.join(self.scoremap_path, image_id + ".npy"))

    def __getitem__(self, index):
        return self._load_cam(self.image_ids[index]), self.image_ids[index]

    def __len__(self):
        return len(self.image_ids)


def evaluate_wsol(scoremap_root, metadata_root, mask_root, dataset_name, split, multi_contour_eval, multi_iou_eval,
                  iou_threshold_list, cam_curve_interval=.001):
    metadata = configure_metadata(os.path.join(metadata_root, dataset_name, split))
    evaluator = {"OpenImages": MaskEvaluator, "CUB": BoxEvaluator}[dataset_name](
        metadata=metadata, dataset_name=dataset_name, split=split, iou_threshold_list=iou_threshold_list,
        cam_threshold_list=list(np.arange(0, 1, cam_curve_interval)), multi_contour_eval=multi_contour_eval,
        mask_root=os.path.join(mask_root, "OpenImages"))
    maps = CamDataset(scoremap_root, get_image_ids(metadata))
    for index in range(len(maps)):
        scoremap, image_id = maps[index]
        evaluator.accumulate(np.float64(scoremap), image_id)
    performance = evaluator.compute()
    averaged = multi_iou_eval or dataset_name == "OpenImages"
    performance = np.average(performance) if averaged else performance[iou_threshold_list.index(50)]
    print("localization: {}".format(performance))
    return performance
"""

INFERENCE = """
import os

import cv2
import numpy as np
from evaluation import BoxEvaluator, MaskEvaluator, configure_metadata
from util import t2n


def normalize_scoremap(cam):
    if np.isnan(cam).any() or cam.min() == cam.max():
        return np.zeros_like(cam)
    cam -= cam.min()
    cam /= cam.max()
    return cam


class CAMComputer:
    def __init__(self, model, loader, metadata_root, mask_root, iou_threshold_list, dataset_name, split,
                 multi_contour_eval, cam_curve_interval=.001, log_folder=None):
        self.model, self.loader, self.split, self.log_folder = model, loader, split, log_folder
        self.model.eval()
        self.evaluator = {"OpenImages": MaskEvaluator, "CUB": BoxEvaluator}[dataset_name](
            metadata=configure_metadata(metadata_root), dataset_name=dataset_name, split=split,
            cam_threshold_list=list(np.arange(0, 1, cam_curve_interval)), iou_threshold_list=iou_threshold_list,
            mask_root=mask_root, multi_contour_eval=multi_contour_eval)

    def compute_and_evaluate_cams(self):
        for images, targets, image_ids in self.loader:
            for cam, image_id in zip(t2n(self.model(images, targets, return_cam=True)), image_ids):
                resized = cv2.resize(cam, tuple(images.shape[2:]), interpolation=cv2.INTER_CUBIC)
                scoremap = normalize_scoremap(resized)
                if self.split in ("val", "test"):
                    path = os.path.join(self.log_folder, "scoremaps", image_id)
                    os.makedirs(os.path.dirname(path), exist_ok=True)
                    np.save(path, scoremap)
                self.evaluator.accumulate(scoremap, image_id)
        return self.evaluator.compute()
"""

FILES = {"util": UTIL, "data_loaders": DATA_LOADERS, "evaluation": EVALUATION, "inference": INFERENCE}


def known(monkeypatch) -> None:
    """Lets definitions that are as in these files pass for the published ones."""
    for text in FILES.values():
        functions, classes = published.entries(text)
        for name, entry in functions.items():
            if name in published.FUNCTIONS:
                monkeypatch.setitem(published.FUNCTIONS, name, (*published.FUNCTIONS[name], entry))
        for name, methods in classes.items():
            if name in published.CLASSES:
                monkeypatch.setitem(published.CLASSES, name, (*published.CLASSES[name], methods))
