"""Texts as classes: CLIP's logits, and what a patch has in common with a text.

In: a small random CLIP of transformers with a tokenizer in a folder. Out: nothing.
Source: Radford et al., arXiv 2103.00020, section 3.1; Zhou et al., arXiv 2112.01071, section 3.2.
"""

import json

import pytest
import torch

from wsolkern.cams import named_cams
from wsolkern.cams.prompts import prompted, read_prompts
from wsolkern.errors import ArgumentError, DatasetError

PROMPTS = ("a", "b a", "c")


@pytest.mark.slow
@torch.no_grad()
def test_clip(tmp_path):
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    words = ["a</w>", "b</w>", "c</w>", "a", "b", "c", "<|startoftext|>", "<|endoftext|>"]
    (tmp_path / "vocab.json").write_text(json.dumps({word: number for number, word in enumerate(words)}))
    (tmp_path / "merges.txt").write_text("#version: 0.2\n")
    transformers.CLIPTokenizer(str(tmp_path / "vocab.json"), str(tmp_path / "merges.txt")).save_pretrained(tmp_path)
    sizes = {"hidden_size": 24, "intermediate_size": 48, "num_attention_heads": 3, "num_hidden_layers": 2}
    text = sizes | {"vocab_size": 8, "bos_token_id": 6, "eos_token_id": 7, "max_position_embeddings": 8}
    config = transformers.CLIPConfig(
        text_config=text, vision_config=sizes | {"image_size": 32, "patch_size": 8}, projection_dim=12
    )
    torch.manual_seed(0)
    clip = transformers.CLIPModel(config).eval()
    images = torch.randn(2, 3, 32, 32)
    with pytest.raises(ArgumentError, match="tokenizer: expected the folder"):
        prompted(clip, PROMPTS)
    with pytest.raises(ArgumentError, match="prompts: CLIPModel has texts"):
        named_cams("similarity", clip, (32, 32))
    model = prompted(clip, PROMPTS, tmp_path)
    ids = transformers.AutoTokenizer.from_pretrained(tmp_path)(list(PROMPTS), padding=True, return_tensors="pt")
    expected = clip(**ids, pixel_values=images)
    torch.testing.assert_close(model(images), expected.logits_per_image, rtol=1e-4, atol=1e-5)
    made = named_cams("similarity", model, (32, 32))(images, torch.tensor([2, 0]))
    vision = clip.vision_model
    tokens = vision.pre_layrnorm(vision.embeddings(images))
    first, last = vision.encoder.layers
    tokens = first(tokens, None)
    tokens = tokens + last.self_attn.out_proj(last.self_attn.v_proj(last.layer_norm1(tokens)))
    tokens = vision.post_layernorm(tokens + last.mlp(last.layer_norm2(tokens)))[:, 1:]
    patches = torch.nn.functional.normalize(clip.visual_projection(tokens), dim=-1)
    cosines = torch.einsum("nlc,nc->nl", patches, expected.text_embeds[[2, 0]]).reshape(2, 4, 4)
    torch.testing.assert_close(made.cams, cosines, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(made.logits, expected.logits_per_image, rtol=1e-4, atol=1e-5)


def test_files_of_prompts(tmp_path):
    file = tmp_path / "prompts.txt"
    file.write_text("a cat\na dog\n")
    assert read_prompts(file) == ("a cat", "a dog")
    for text, message in (("a\n\nb\n", "line 2: expected the prompt of class 1"), ("a\na\n", "line 2"), ("", "empty")):
        file.write_text(text)
        with pytest.raises(DatasetError, match=message):
            read_prompts(file)
