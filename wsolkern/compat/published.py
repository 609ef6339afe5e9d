"""What of a project is the published evaluator's: names, signatures, and the source as a tree.

In: a function or a class. Out: None if it is as published, or what is different.
Source: Choe et al.'s evaluator (evaluation.py of January and July 2020, inference.py, data_loaders.py, util.py) and
Kim et al.'s inference.py; fingerprints of their definitions, no code.

A fingerprint is of the syntax tree: comments, docstrings, annotations, layout, quotes and the Python version count for
nothing, nor does the way that a float64 is called (``np.float``, which numpy took away, ``float``, ``np.float64``).

``python -m wsolkern.compat.published FILE...`` says of each definition in these files whether it is as published.
"""

import ast
import hashlib
import inspect
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from types import FunctionType

FUNCTIONS: dict[str, tuple[str, ...]] = {
    "t2n": ("(t) af3266d4115d",),
    "check_scoremap_validity": ("(scoremap) 84daa529b315",),
    "check_box_convention": ("(boxes, convention) 68972396e7bd",),
    "configure_metadata": ("(metadata_root) 131de5eab0f5",),
    "get_image_ids": ("(metadata, proxy=False) b9cf92723f96",),
    "get_class_labels": ("(metadata) e7fc66e3ee0f",),
    "get_bounding_boxes": ("(metadata) b434c32cf4ff",),
    "get_mask_paths": ("(metadata) b19ed671b8ef",),
    "get_image_sizes": ("(metadata) b786438b82b1",),
    "calculate_multiple_iou": ("(box_a, box_b) 584fa6b3113a",),
    "resize_bbox": ("(box, image_size, resize_size) 44a3b26124a9",),
    "compute_bboxes_from_scoremaps": (
        "(scoremap, scoremap_threshold_list, multi_contour_eval=False) cde003b0297a",
        "(scoremap, scoremap_threshold_list) 5310623918ad",
    ),
    "load_mask_image": ("(file_path, resize_size) 29f0e9b68c53",),
    "get_mask": ("(mask_root, mask_paths, ignore_path) 922b3164f411",),
    "_get_cam_loader": ("(image_ids, scoremap_path) 7d71b33afe1d",),
    "evaluate_wsol": (
        "(scoremap_root, metadata_root, mask_root, dataset_name, split, multi_contour_eval, "
        "multi_iou_eval, iou_threshold_list, cam_curve_interval=0.001) b4971a067e69",
    ),
    "normalize_scoremap": ("(cam) 732acf4604f1",),
}
"""Function -> ``signature fingerprint`` of its published versions."""

CLASSES: dict[str, tuple[dict[str, str], ...]] = {
    "CamDataset": (
        {
            "__init__": "(self, scoremap_path, image_ids) 3da1bb22449e",
            "_load_cam": "(self, image_id) 43000cc19f55",
            "__getitem__": "(self, index) abb10956877f",
            "__len__": "(self) e4d25d83e1a3",
        },
    ),
    "LocalizationEvaluator": (
        {
            "__init__": (
                "(self, metadata, dataset_name, split, cam_threshold_list, iou_threshold_list, "
                "mask_root, multi_contour_eval) f186023d9f12"
            ),
            "accumulate": "(self, scoremap, image_id) 5109a9318498",
            "compute": "(self) 188fa442be2b",
        },
    ),
    "BoxEvaluator": (
        {
            "__init__": "(self, **kwargs) 5fd34a794e41",
            "_load_resized_boxes": "(self, original_bboxes) 4e49b32ef0c0",
            "accumulate": "(self, scoremap, image_id) a605bdee8113",
            "compute": "(self) 0a30c71a82be",
        },
    ),
    "MaskEvaluator": (
        {
            "__init__": "(self, **kwargs) 9456965e739e",
            "accumulate": "(self, scoremap, image_id) d7846745a4fc",
            "compute": "(self) 2272c3049d53",
        },
    ),
    "CAMComputer": (
        {
            "__init__": (
                "(self, model, loader, metadata_root, mask_root, iou_threshold_list, dataset_name, "
                "split, multi_contour_eval, cam_curve_interval=0.001, log_folder=None) 5b1988d70f0f"
            ),
            "compute_and_evaluate_cams": "(self) 5bff982d6848",
        },
        {
            "__init__": (
                "(self, model, loader, metadata_root, mask_root, iou_threshold_list, dataset_name, "
                "split, multi_contour_eval, cam_curve_interval=0.001, log_folder=None, "
                "norm_method='minmax', percentile=0.6) 53d652333e02"
            ),
            "compute_and_evaluate_cams": "(self) f55be2980bbc",
            "normalize_scoremap": "(self, cam) 8ee893ea7549",
        },
    ),
}
"""Class -> its published versions: method -> ``signature fingerprint``."""

BASES = {"BoxEvaluator": "LocalizationEvaluator", "MaskEvaluator": "LocalizationEvaluator", "CamDataset": "Dataset"}
"""Class -> the one that it is derived from, where that is not object."""

_SAME = {("np", "float"): "float", ("np", "float64"): "float", ("np", "int"): "int", ("np", "bool"): "bool"}
_LEFT_OUT = ("kind", "type_comment", "type_params", "annotation", "returns", "ctx")
_OF_EVERY_CLASS = {"__module__", "__doc__", "__dict__", "__weakref__", "__qualname__", "__firstlineno__"}
_OF_EVERY_CLASS |= {"__static_attributes__", "__annotations__", "__parameters__", "__orig_bases__"}


_EQUAL: dict[int, object] = {}  # by id(): what is given a name may not be hashable


def equal_to_published(definition):
    """Notes that a function or a class of ours, or of a project, does what the published one of its name does."""
    _EQUAL[id(definition)] = definition
    return definition


def is_published(definition: object) -> bool:
    """Whether that was noted of it."""
    return _EQUAL.get(id(definition)) is definition is not None


def all_published(home: dict, *names: str) -> bool:
    """Whether that was noted of what a module has under these names; of one that it does not have nothing is asked."""
    return all(is_published(home[name]) for name in names if name in home)


def difference(definition: object) -> str | None:
    """None if a function or a class is as published; otherwise what is different, for a message.

    A class is if it has exactly the methods of a published version and its base is one. Where no source is there, names
    and signatures decide.
    """
    if inspect.isclass(definition):
        return _class_difference(definition)
    if not isinstance(definition, FunctionType):
        return f"is a {type(definition).__name__}"
    return _function_difference(definition, FUNCTIONS.get(definition.__name__, ()))


def has_published_method(definition: type, name: str) -> bool:
    """Whether a class, itself as published or not, has a method of its own that is."""
    method, versions = vars(definition).get(name), CLASSES.get(definition.__name__, ())
    known = tuple(version[name] for version in versions if name in version)
    return isinstance(method, FunctionType) and _function_difference(method, known) is None


def _class_difference(definition: type) -> str | None:
    name = definition.__name__
    expected_base, bases = BASES.get(name, "object"), definition.__bases__
    if [each.__name__ for each in bases] != [expected_base]:
        return f"is derived from {', '.join(each.__name__ for each in bases)}"
    if expected_base in CLASSES and (why := difference(bases[0])):
        return f"its base {expected_base} {why}"
    found = {key: value for key, value in vars(definition).items() if key not in _OF_EVERY_CLASS}
    reasons = [list(_member_differences(found, version)) for version in CLASSES.get(name, ())]
    nearest = min(reasons, key=len, default=["is not published"])
    return ", ".join(nearest) or None


def _member_differences(found: dict[str, object], version: dict[str, str]) -> Iterator[str]:
    for name in version:
        if name not in found:
            yield f"has no {name}"
    for name, value in found.items():
        if name not in version:
            yield f"has {name} in addition"
        elif not isinstance(value, FunctionType):
            yield f"its {name} is a {type(value).__name__}"
        elif why := _function_difference(value, (version[name],)):
            yield f"its {name} {why}"


def _function_difference(function: FunctionType, versions: tuple[str, ...]) -> str | None:
    signature, found = _signature(function), _fingerprint_of(function)
    with_signature = [each for each in versions if each.rpartition(" ")[0] == signature]
    if not with_signature:
        return f"takes {signature}"
    if found is not None and f"{signature} {found}" not in with_signature:
        return "has another body"
    return None


def _signature(function: FunctionType) -> str:
    signature = inspect.signature(function, follow_wrapped=False)
    plain = [each.replace(annotation=inspect.Parameter.empty) for each in signature.parameters.values()]
    return str(signature.replace(parameters=plain, return_annotation=inspect.Signature.empty))


def _fingerprint_of(function: FunctionType) -> str | None:
    """The fingerprint of what runs (a decorator's wrapper, not what it wraps); None where there is no source."""
    if function.__code__.co_filename == "<string>":  # of exec, for which Python 3.13 gives the text of python -c
        return None
    try:
        source = textwrap.dedent(inspect.getsource(function.__code__))
    except (OSError, TypeError):
        return None
    try:
        return fingerprint(ast.parse(source).body[0])
    except SyntaxError:  # a lambda within an expression
        return ""


def fingerprint(node: ast.AST) -> str:
    """Of a syntax tree, 12 hexadecimal digits."""
    return hashlib.sha256(_text(node).encode()).hexdigest()[:12]


def _text(node: object) -> str:
    """A syntax tree as a text without what does not count; the same for all Python versions."""
    if isinstance(node, list):
        return "[" + ",".join(map(_text, node)) + "]" if node else ""
    if not isinstance(node, ast.AST):
        return repr(node)
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        if same := _SAME.get((node.value.id, node.attr)):
            return f"Name({same!r})"
    if isinstance(node, ast.Name):
        return f"Name({node.id!r})"
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "super":
        return "Call(super)"
    fields = []
    for name, value in ast.iter_fields(node):
        if name == "body" and isinstance(value, list):
            value = [each for each in value if not _is_docstring(each)]
        if name not in _LEFT_OUT and value is not None and value != []:
            fields.append(f"{name}={_text(value)}")
    return f"{type(node).__name__}({','.join(fields)})"


def _is_docstring(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Expr) and isinstance(getattr(statement.value, "value", None), str)


def definitions(source: str) -> Iterator[tuple[str, ast.stmt]]:
    """The functions and classes at the top of a file, also below an ``if`` or a ``try``, by name.

    Raises:
        SyntaxError: It is not Python.
    """
    open_blocks = [ast.parse(source).body]
    while open_blocks:
        for statement in open_blocks.pop():
            if isinstance(statement, ast.FunctionDef | ast.ClassDef):
                yield statement.name, statement
            elif isinstance(statement, ast.If | ast.Try):
                open_blocks += [getattr(statement, part, []) for part in ("body", "orelse", "finalbody")]


def entries(source: str) -> tuple[dict[str, str], dict[str, dict[str, str]]]:
    """What :data:`FUNCTIONS` and :data:`CLASSES` hold of a file: one version of each definition in it."""

    def entry(node: ast.FunctionDef) -> str:
        arguments = node.args
        for each in ast.walk(arguments):
            if isinstance(each, ast.arg):
                each.annotation = None
        return f"({ast.unparse(arguments)}) {fingerprint(node)}"

    functions, classes = {}, {}
    for name, node in definitions(source):
        if isinstance(node, ast.FunctionDef):
            functions[name] = entry(node)
        else:
            classes[name] = {each.name: entry(each) for each in node.body if isinstance(each, ast.FunctionDef)}
    return functions, classes


def compare(source: str) -> dict[str, str]:
    """Definitions of a file that have a published one's name -> "as published", or what is the file's own."""
    functions, classes = entries(source)
    found = {
        name: "as published" if entry in FUNCTIONS[name] else "its own"
        for name, entry in functions.items()
        if name in FUNCTIONS
    }
    for name, methods in classes.items():
        if name in CLASSES:
            own = min(([m for m, each in methods.items() if v.get(m) != each] for v in CLASSES[name]), key=len)
            found[name] = f"its own: {', '.join(own)}" if own else "as published"
    return found


def main(paths: list[str]) -> None:
    """Prints one line a definition."""
    for path in paths:
        for name, found in compare(Path(path).read_text(encoding="utf-8")).items():
            print(f"{path}: {name}: {found}")


if __name__ == "__main__":
    main(sys.argv[1:])
