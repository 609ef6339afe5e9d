"""The networks are the published ones: names, shapes, scores and CAMs; checkpoints load or say what is wrong.

In: wsol_parameters.tsv and wsol_outputs.json: a transcription of the published code on weights() and images().
Source: Choe et al., arXiv 2007.04178 (clovaai/wsolevaluation, b5c1e8a); outputs are of torch 2.13 on a CPU.
"""

import json
import subprocess
import sys
import urllib.error
from pathlib import Path

import numpy as np
import pytest
import torch
from shared import slow_but

from wsolkern.methods import tap
from wsolkern.models import BACKBONES, METHODS, build, load_checkpoint, load_pretrained

HERE = Path(__file__).parent
KINDS = ("cam", "acol", "spg", "adl")
BATCH_NORM = ("weight", "bias", "running_mean", "running_var")
OUTPUTS = json.loads((HERE / "wsol_outputs.json").read_text())


def read_parameters() -> dict[str, dict[str, tuple[int, ...]]]:
    """Names and shapes of every variant, in the order of the published state dicts."""
    variants = {}
    for line in (HERE / "wsol_parameters.tsv").read_text().splitlines():
        if line.startswith(">"):
            parameters = {}
            variants |= dict.fromkeys(line[2:].split(", "), parameters)
        elif not line.startswith("#"):
            name, shape = line.split("\t")
            if shape.startswith("batch norm"):
                parameters |= {f"{name}.{part}": (int(shape.split()[-1]),) for part in BATCH_NORM}
                parameters[f"{name}.num_batches_tracked"] = ()
            else:
                parameters[name] = tuple(map(int, shape.split()))
    return variants


PARAMETERS = read_parameters()
VARIANTS = list(PARAMETERS)
# Each backbone and each method once.
FEW_VARIANTS = ("vgg16 acol 14x14", "vgg16 cam 28x28", "inception_v3 spg 28x28", "resnet50 adl 14x14")


def weights(parameters: dict[str, tuple[int, ...]]) -> dict[str, torch.Tensor]:
    """Values for a state dict that any machine repeats: windows of one random series, so that files are small."""
    series = torch.from_numpy(np.random.RandomState(5).standard_normal(65536).astype(np.float32))
    state = {}
    for number, (name, shape) in enumerate(parameters.items()):
        strides = (13, 5, 3, 7)[: len(shape)]
        values = series[331 * number % 20000 :].as_strided(shape, strides)
        if name.endswith("num_batches_tracked"):
            state[name] = torch.tensor(number)
        elif name.endswith("running_var"):
            state[name] = values.clone().abs() + 0.5
        elif len(shape) == 1:
            state[name] = values * 0.1 + (".weight" in name)
        else:
            state[name] = ((2 / np.prod(shape[1:])) ** 0.5 * series)[331 * number % 20000 :].as_strided(shape, strides)
    return state


def images(size: int = 80) -> torch.Tensor:
    series = np.random.RandomState(6).standard_normal((2, 3, size, size))
    return torch.from_numpy(series.astype(np.float32))


LABELS = torch.tensor([3, 977])


def empty(variant: str, **options) -> torch.nn.Module:
    """A network whose weights are still to be loaded."""
    backbone, method, size = variant.split()
    with torch.device("meta"):
        network = build(backbone, method, large_feature_map=size == "28x28", **options)
    return network.to_empty(device="cpu").eval()


def summary(network: torch.nn.Module) -> dict[str, list[float]]:
    """Four values of everything that a network returns; of ADL, whose layers only work then, while training too."""
    with torch.no_grad():
        outputs = network(images(), LABELS) | {"cams": network(images(), LABELS, return_cam=True)}
        if any(type(module).__name__ == "ADL" for module in network.modules()):
            outputs["training"] = network.train()(images(), LABELS)["logits"]
    return {name: value.flatten()[:: value.numel() // 3 - 1][:4].tolist() for name, value in outputs.items()}


def test_the_data_has_all_variants():
    expected = {
        f"{backbone} {kind} {size}" for backbone in BACKBONES[:3] for kind in KINDS for size in ("14x14", "28x28")
    }
    assert set(VARIANTS) == expected == set(OUTPUTS) and len(expected) == 24


@pytest.mark.parametrize("variant", VARIANTS)
def test_names_and_shapes_are_the_published_ones(variant):
    backbone, method, size = variant.split()
    with torch.device("meta"):
        network = build(backbone, method, large_feature_map=size == "28x28")
    found = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    assert list(found.items()) == list(PARAMETERS[variant].items())


@pytest.mark.parametrize("variant", slow_but(FEW_VARIANTS, VARIANTS))
def test_shapes_at_224_pixels(variant):
    backbone, method, size = variant.split()
    side = int(size[:2])
    with torch.device("meta"):
        network = build(backbone, method, 7, size == "28x28").eval()
        outputs = network(torch.empty(2, 3, 224, 224), torch.tensor([0, 6]))
        cams = network(torch.empty(2, 3, 224, 224), return_cam=True)
    shapes = {"logits": [2, 7]}
    if method == "acol":
        shapes |= {"logit_b": [2, 7], "feat_map_a": [2, 7, side, side], "feat_map_b": [2, 7, side, side]}
    if method == "spg":
        shapes |= dict.fromkeys(("attention", "fused_attention"), [2, 1, 224, 224])
        shapes |= dict.fromkeys(("logits_b1", "logits_b2", "logits_c"), [2, 1, side, side])
    assert {name: list(value.shape) for name, value in outputs.items()} == shapes
    assert cams.shape == (2, side, side) and not cams.requires_grad


@pytest.mark.parametrize("variant", slow_but(FEW_VARIANTS[1:3], VARIANTS))
def test_a_published_checkpoint_gives_the_published_scores_and_cams(variant, tmp_path):
    state = {f"module.{name}": value for name, value in weights(PARAMETERS[variant]).items()}
    checkpoint = {"architecture": variant.split()[0], "epoch": 3, "state_dict": state, "optimizer": {"state": {}}}
    torch.save(checkpoint, tmp_path / "last_checkpoint.pth.tar")
    # Of ADL's two maps always the drop mask; which one it is, is random otherwise.
    network = empty(variant, **{"adl_drop_rate": 1.0} if " adl " in variant else {})
    rest = load_checkpoint(network, tmp_path / "last_checkpoint.pth.tar")
    assert rest == {"architecture": variant.split()[0], "epoch": 3, "optimizer": {"state": {}}}
    found = summary(network)
    for name, expected in OUTPUTS[variant].items():
        # Sums of up to 18,432 products, in the order of each machine's matrix library.
        np.testing.assert_allclose(found[name], expected, rtol=1e-3, atol=1e-3 * np.abs(expected).max(), err_msg=name)


@pytest.fixture(scope="module")
def vgg16():
    network = empty("vgg16 cam 14x14")
    network.load_state_dict(weights(PARAMETERS["vgg16 cam 14x14"]))
    return network


def test_has_and_cutmix_are_cam():
    with torch.device("meta"):
        cam, has, cutmix = (build("resnet50", method, 5).state_dict() for method in ("cam", "has", "cutmix"))
    shapes = {name: value.shape for name, value in cam.items()}
    assert shapes == {name: value.shape for name, value in has.items()}
    assert shapes == {name: value.shape for name, value in cutmix.items()}
    assert METHODS == ("cam", "has", "acol", "spg", "adl", "cutmix")


def test_saved_weights_load_in_old_and_new_files_and_without_a_checkpoint_around_them(vgg16, tmp_path):
    for name, new in (("old.pth.tar", False), ("new.pth", True)):
        torch.save(vgg16.state_dict(), tmp_path / name, _use_new_zipfile_serialization=new)
        network = empty("vgg16 cam 14x14")
        assert load_checkpoint(network, str(tmp_path / name)) == {}
        with torch.no_grad():
            assert torch.equal(network(images())["logits"], vgg16(images())["logits"])


def test_checkpoints_older_than_the_batch_counters_load(tmp_path):
    state = weights(PARAMETERS["resnet50 cam 14x14"])
    torch.save({name: value for name, value in state.items() if "num_batches" not in name}, tmp_path / "old.pth.tar")
    network = empty("resnet50 cam 14x14")
    load_checkpoint(network, tmp_path / "old.pth.tar")
    assert torch.equal(network.layer4[2].bn3.running_var, state["layer4.2.bn3.running_var"])


def test_without_labels_cams_are_of_the_predicted_classes(vgg16):
    with torch.no_grad():
        predicted = vgg16(images())["logits"].argmax(1)
    assert torch.equal(vgg16(images(), return_cam=True), vgg16(images(), predicted, return_cam=True))


@pytest.mark.parametrize(
    "variant", slow_but(["vgg16 acol 14x14"], ["vgg16 cam 14x14", "inception_v3 cam 14x14", "vgg16 acol 14x14"])
)
def test_nwc_leaves_out_negative_weights(variant):
    network = empty(variant)
    network.load_state_dict(weights(PARAMETERS[variant]))
    found = network(images(), LABELS, return_cam=True, nwc=True)
    for layer in (
        module for module in network.modules() if getattr(module, "weight", torch.empty(0)).shape[:1] == (1000,)
    ):
        assert (layer.weight < 0).any()
        if variant != "vgg16 acol 14x14":  # there the first branch's weights also decide what is erased
            layer.weight.data.clamp_(min=0)
            expected = network(images(), LABELS, return_cam=True)
            torch.testing.assert_close(found, expected)  # sums in another order
    if variant == "vgg16 acol 14x14":
        assert found.amax((1, 2)).eq(1).all() and not torch.equal(found, network(images(), LABELS, return_cam=True))


@pytest.mark.parametrize(
    "variant",
    slow_but(
        ["resnet50 adl 14x14"], ["vgg16 cam 14x14", "resnet50 adl 14x14", "vgg16 acol 14x14", "inception_v3 spg 14x14"]
    ),
)
def test_one_look_gives_all_that_single_passes_give(variant):
    network = empty(variant).eval()
    network.load_state_dict(weights(PARAMETERS[variant]))
    passes = []
    next(network.children()).register_forward_hook(lambda *_: passes.append(1))
    for labels in (LABELS, None):
        passes.clear()
        found = network.look(images(), labels, nwc=True)
        assert len(passes) == 1
        with torch.no_grad():
            logits = network(images())["logits"]
        assert torch.equal(found.logits, logits)
        assert torch.equal(found.classes, logits.argmax(1) if labels is None else torch.as_tensor(LABELS))
        assert torch.equal(found.cams, network(images(), labels, return_cam=True))
        assert torch.equal(found.nwc_cams, network(images(), labels, return_cam=True, nwc=True))
        assert network.look(images(), labels).nwc_cams is None


@pytest.mark.parametrize(
    ("variant", "layer"),
    slow_but([("vgg16 cam 14x14", "fc")], [("vgg16 cam 14x14", "fc"), ("inception_v3 adl 14x14", "SPG_A4")]),
)
def test_tap_pools_what_is_active(variant, layer):
    network, plain = empty(variant, tap_threshold=0.3), empty(variant)
    network.load_state_dict(weights(PARAMETERS[variant]))
    plain.load_state_dict(network.state_dict())
    layer = getattr(network, layer)
    with torch.no_grad():
        pooled = tap.pool(network.trunk(images()), 0.3)
        expected = pooled @ layer.weight.flatten(1).T + layer.bias
        found = network(images())["logits"]
        torch.testing.assert_close(found, expected)  # sums in another order
        assert not torch.allclose(found, plain(images())["logits"])
        assert torch.equal(network(images(), LABELS, return_cam=True), plain(images(), LABELS, return_cam=True))


def test_options_reach_the_method():
    with torch.device("meta"):
        adl = build("vgg16", "adl", adl_drop_rate=0.5, adl_threshold=0.6)
        acol = build("resnet50", "acol", acol_threshold=0.8)
    assert {(each.drop_rate, each.threshold) for each in adl.modules() if type(each).__name__ == "ADL"} == {(0.5, 0.6)}
    assert acol.acol_threshold == 0.8


@pytest.mark.slow
def test_training_differs_from_evaluation_only_where_it_should():
    network = build("inception_v3", "cam", 3)
    torch.manual_seed(0)
    assert not torch.equal(network(images())["logits"], network(images())["logits"])  # dropout
    network.eval()
    assert torch.equal(network(images())["logits"], network(images())["logits"])


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (("vgg19", "cam"), {}, "backbone: expected one of vgg16, inception_v3, resnet50, tiny, found 'vgg19'"),
        (("vgg16", "gradcam"), {}, "method: expected one of cam, has, .* found 'gradcam'"),
        (("vgg16", "cam", 0), {}, "num_classes: expected an integer of at least 1, found 0"),
        (("vgg16", "spg"), {"acol_threshold": 0.5}, "acol_threshold: spg has no such option; it has none"),
        (("vgg16", "has"), {"drop_rate": 0.5}, "drop_rate: has has no such option; it has tap_threshold"),
        (("vgg16", "acol"), {"acol_threshold": 1.5}, r"acol_threshold: expected a value in \[0, 1\], found 1.5"),
    ],
)
def test_wrong_names_and_options_are_named(arguments, options, message):
    with torch.device("meta"), pytest.raises(ValueError, match=message):
        build(*arguments, **options)


def test_wrong_labels_are_named(vgg16):
    for labels in ([0], [0, 1000], [-1, 0], [0.0, 1.0], [True, False]):
        with pytest.raises(ValueError, match="labels: expected"):
            vgg16(images(), torch.tensor(labels), return_cam=True)
    with pytest.raises(ValueError, match="nwc: .* expected return_cam=True"):
        vgg16(images(), nwc=True)


def broken(state, change):
    state = dict(state)
    change(state)
    return state


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("conv6.bias"), r"expected a parameter conv6.bias \[1024\], found none"),
        (
            lambda state: state.update({"fc.weight": torch.zeros(200, 1024)}),
            "fc.weight: expected shape .*, found .200, ",
        ),
        (lambda state: state.update(extra=torch.zeros(2)), r"unexpected parameter extra \[2\]"),
        (lambda state: state.update(extra="text"), r"unexpected parameter extra \(str\) in \['state_dict'\]"),
        (lambda state: state.update(extra=print), "no checkpoint of tensors"),
    ],
    ids=["missing", "shape", "unexpected", "text", "code"],
)
def test_wrong_checkpoints_are_named(vgg16, tmp_path, change, message):
    path, before = tmp_path / "wrong.pth.tar", vgg16.fc.weight.clone()
    torch.save({"state_dict": broken(weights(PARAMETERS["vgg16 cam 14x14"]), change)}, path)
    with pytest.raises(ValueError, match=f"wrong.pth.tar: .*{message}"):
        load_checkpoint(vgg16, path)
    assert torch.equal(vgg16.fc.weight, before)


def test_checkpoints_of_something_else_are_named(vgg16, tmp_path):
    path = tmp_path / "other.pth.tar"
    torch.save({"architecture": "resnet50", "state_dict": {}}, path)
    with pytest.raises(ValueError, match="other.pth.tar: expected a checkpoint of vgg16, found resnet50"):
        load_checkpoint(vgg16, path)
    path.write_bytes(b"no checkpoint")
    with pytest.raises(ValueError, match="other.pth.tar: no checkpoint of tensors"):
        load_checkpoint(vgg16, path)
    path.write_bytes(b"")
    with pytest.raises(ValueError, match="other.pth.tar: expected weights, found an empty file"):
        load_checkpoint(vgg16, path)
    torch.save([1, 2], path)
    with pytest.raises(ValueError, match="other.pth.tar: expected a state dict"):
        load_checkpoint(vgg16, path)
    with pytest.raises(FileNotFoundError, match="none.pth.tar: no such file"):
        load_checkpoint(vgg16, tmp_path / "none.pth.tar")


def torchvision_shapes(backbone: str) -> dict[str, tuple[int, ...]]:
    """What the files of torchvision hold, for the layers that tell."""
    shapes = PARAMETERS[f"{backbone} cam 14x14"]
    if backbone == "resnet50":
        return dict(shapes)
    if backbone == "inception_v3":
        own = {name: shape for name, shape in shapes.items() if not name.startswith("SPG")}
        return own | {"AuxLogits.conv0.conv.weight": (128, 768, 1, 1), "Mixed_7a.x": (2,), "fc.weight": (1000, 2048)}
    own = {name: shape for name, shape in shapes.items() if name.startswith("features")}
    return own | {"classifier.0.weight": (8, 9), "classifier.0.bias": (8,)}


# Our name of a layer in each variant, and torchvision's.
RENAMED = {
    "vgg16 cam 14x14": {"features.28": "features.28"},
    "vgg16 cam 28x28": {"features.21": "features.21", "features.23": "features.24", "features.27": "features.28"},
    "vgg16 acol 28x28": {"features.17": "features.17", "features.28": "features.28"},
    "vgg16 spg 14x14": {"features.14": "features.14", "SPG_A_1.0": "features.17", "SPG_A_2.4": "features.28"},
    "vgg16 adl 14x14": {"features.18": "features.17", "features.22": "features.21", "features.26": "features.24"},
    "vgg16 adl 28x28": {"features.18": "features.17", "features.25": "features.24", "features.29": "features.28"},
    "inception_v3 cam 14x14": {"Mixed_6e.branch_pool.bn": "Mixed_6e.branch_pool.bn"},
    "resnet50 cam 14x14": {"layer4.2.bn3": "layer4.2.bn3", "fc": "fc"},
    "resnet50 acol 14x14": {"layer3.5.conv1": "layer3.5.conv1"},
    "resnet50 spg 14x14": {"SPG_A1.0.downsample.0": "layer3.0.downsample.0", "SPG_A2.4.conv3": "layer3.5.conv3"},
    "resnet50 adl 14x14": {"layer3.6": "layer3.5", "layer4.2.conv1": "layer4.1.conv1", "layer4.3": "layer4.2"},
}  # fmt: skip


@pytest.mark.parametrize("variant", RENAMED)
def test_every_layer_of_the_backbone_has_its_torchvision_name(variant):
    backbone, method, size = variant.split()
    with torch.device("meta"):
        network = build(backbone, method, large_feature_map=size == "28x28")
    names = network.torchvision_names()
    for ours, theirs in RENAMED[variant].items():
        parts = [name.removeprefix(ours) for name in PARAMETERS[variant] if name.startswith(f"{ours}.")]
        assert parts and all(names[ours + part] == theirs + part for part in parts)
    shapes = torchvision_shapes(backbone)
    assert all(PARAMETERS[variant][ours] == shapes[theirs] for ours, theirs in names.items())
    own = ("classifier", "AuxLogits", "Mixed_7") + (() if "fc.weight" in names else ("fc",))
    assert sorted(names.values()) == sorted(name for name in shapes if not name.startswith(own))


@pytest.mark.parametrize("variant", ["vgg16 adl 14x14", "resnet50 spg 14x14"])
def test_the_backbone_is_loaded_and_nothing_else(variant, tmp_path):
    shapes = torchvision_shapes(variant.split()[0])
    state = weights({name: shape for name, shape in shapes.items() if not name.endswith("num_batches_tracked")})
    torch.save(state, tmp_path / "file.pth")
    network = empty(variant)
    for value in network.state_dict().values():
        value.zero_()
    load_pretrained(network, tmp_path / "file.pth")
    names = network.torchvision_names()
    for name, value in network.state_dict().items():
        expected = state.get(names.get(name))
        assert not value.any() if expected is None else torch.equal(value, expected), name


def test_resnet_keeps_its_own_linear_layer_unless_it_has_1000_classes():
    with torch.device("meta"):
        assert "fc.weight" in build("resnet50", "cam").torchvision_names()
        assert "fc.weight" not in build("resnet50", "cam", 200).torchvision_names()


def test_a_torchvision_file_comes_from_torch_hubs_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    torch.save(weights(torchvision_shapes("vgg16")), tmp_path / "checkpoints/vgg16-397923af.pth")
    network = empty("vgg16 cam 14x14")
    load_pretrained(network)
    assert torch.equal(network.features[0].weight, weights(torchvision_shapes("vgg16"))["features.0.weight"])


def test_offline_the_message_says_which_file_to_put_where(vgg16, tmp_path, monkeypatch):
    def offline(*_arguments, **_options):
        raise urllib.error.URLError("no network")

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
    with pytest.raises(FileNotFoundError) as caught:
        load_pretrained(vgg16)
    message = str(caught.value)
    assert str(tmp_path / "checkpoints/vgg16-397923af.pth") in message
    assert "no network" in message and "https://download.pytorch.org/models/vgg16-397923af.pth" in message


def test_a_wrong_torchvision_file_is_named(vgg16, tmp_path):
    state = weights(torchvision_shapes("vgg16"))
    del state["features.5.bias"]
    torch.save(state, tmp_path / "cut.pth")
    with pytest.raises(ValueError, match=r"cut.pth: expected a parameter features.5.bias \[128\], found none"):
        load_pretrained(vgg16, tmp_path / "cut.pth")


def test_importing_models_does_not_import_torch():
    code = "import sys, wsolkern.models, wsolkern.methods; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "False"
