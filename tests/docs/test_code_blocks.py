"""Every code block of README.md, CONTRIBUTING.md and docs/ does what it says.

In: the pages; a reader's folder with a small data set. Out: Python is executed, commands are run or parsed.
Source: none.
"""

import pytest
from code_blocks import BrokenBlock, blocks, do_page, pages

PAGES = [page for page in pages() if blocks(page)]
SLOW = [page for page in PAGES if any(block.mark == "slow" for block in blocks(page))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_a_page_shows_can_be_done(page, reader):
    do_page(page)


@pytest.mark.slow
@pytest.mark.parametrize("page", SLOW, ids=lambda page: page.name)
def test_what_takes_minutes(page, reader):
    do_page(page, slow=True)


def test_few_blocks_are_only_shown():
    shown = [str(block) for page in PAGES for block in blocks(page) if block.mark == "not run"]
    assert len(shown) <= 5, shown


BROKEN = {
    "an_exception": ("```python\nimport wsolkern\n\nwsolkern.no_such_name\n```", r"page\.md:2: AttributeError"),
    "no_syntax": ("```python\nx = = 1\n```", "SyntaxError"),
    "a_name_of_no_block_before": ("```python\nevaluator.compute()\n```", "NameError"),
    "an_option_that_is_gone": ("```bash\nwsolkern evaluate --cam cams/ --metadata metadata/CUB/test\n```", "--cam"),
    "a_file_that_is_not_there": ("```bash\nwsolkern evaluate --cams none --metadata metadata/CUB/test\n```", "none"),
    "the_second_command": ("```bash\nwsolkern store info runs/cub-vgg16-cam-test && wsolkern store look\n```", "look"),
    "parsed_option": ("<!-- parsed: x -->\n```bash\nwsolkern train \\\n  --epoch 3\n```", "--epoch"),
    "parsed_type": ("<!-- parsed: x -->\n```bash\nwsolkern sweep S --metadata M --threads many\n```", "many"),
    "parsed_command": ("<!-- parsed: x -->\n```bash\nwsolkern guess\n```", "guess"),
    "parsed_required": ("<!-- parsed: x -->\n```bash\nwsolkern sweep S\n```", "--metadata"),
    "slow_option": ("<!-- slow: x -->\n```bash\nwsolkern demo --fast\n```", "--fast"),
    "several_processes": ("<!-- parsed: x -->\n```bash\ntorchrun -m wsolkern train --epoch 3\n```", "--epoch"),
    "benchmark": ("<!-- parsed: x -->\n```bash\npython -m benchmarks.fuzz --map 3\n```", "--map"),
    "no_module": ("<!-- parsed: x -->\n```bash\npython -m benchmarks.guess\n```", "benchmarks.guess"),
    "extra": ("<!-- parsed: x -->\n```bash\npip install '.[nothing]'\n```", "nothing"),
    "script": ("<!-- parsed: x -->\n```bash\n.ci/walk\n```", ".ci/walk"),
    "unknown": ("<!-- parsed: x -->\n```bash\nmake all\n```", "make"),
    "not_wsolkern": ("```bash\npytest\n```", "pytest"),
    "no_language": ("```\nwsolkern demo\n```", "no language"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_block_is_found(case, reader):
    text, found = BROKEN[case]
    (reader / "page.md").write_text(f"{text}\n")
    with pytest.raises(BrokenBlock, match=found):
        do_page(reader / "page.md")


def test_each_source_goes_to_a_table_and_a_picture_in_four_commands():
    """The blocks of own-data.md that are run, section by section: import, extract, evaluate, show."""
    (page,) = (page for page in PAGES if page.name == "own-data.md")
    chains = []
    for block in blocks(page):
        words = [line.split() for line in block.text.splitlines() if line.startswith("wsolkern ")]
        if block.mark is None and [each[1] for each in words] == ["import-dataset", "extract", "evaluate", "show"]:
            chains.append(words[0][2])
    assert chains == ["coco", "csv", "imagefolder", "cub"]
