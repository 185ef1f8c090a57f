"""tests/reference is complete, and holds facts only."""

import re

from animatediff_dev_reference import FOLDER, LATENTS, interface, prompt, prompt_names, stored_nodes, weight_checksums
from safetensors import safe_open

README = (FOLDER / "README.md").read_text(encoding="utf-8")


def test_each_prompt_has_a_latent_and_each_latent_a_prompt():
    with safe_open(LATENTS, "pt") as latents:
        assert sorted(latents.keys()) == prompt_names()
        for name in prompt_names():
            (frames,) = (
                node["inputs"]["batch_size"]
                for node in prompt(name).values()
                if "Latent" in node["class_type"] and "batch_size" in node["inputs"]
            )
            assert latents.get_slice(name).get_shape() == [frames, 4, 8, 8]


def test_prompts_name_only_weights_that_have_a_checksum():
    files = {name.rpartition("/")[2] for name in weight_checksums()}
    named = {
        value
        for name in prompt_names()
        for node in prompt(name).values()
        for value in node["inputs"].values()
        if isinstance(value, str) and value.endswith((".safetensors", ".ckpt"))
    }
    assert named == files


def test_the_readme_counts_what_is_there():
    assert f"{len(prompt_names())} API prompts" in README
    assert f"{len(interface())} node ids" in README
    assert f"{len(stored_nodes())} nodes" in README
    files = {path.name for path in FOLDER.iterdir()} - {"README.md"}
    assert files == set(re.findall(r"^\| `(\w+(?:\.\w+)?)", README, re.MULTILINE))


def test_the_interface_holds_nobodys_sentences():
    """Only settings that change what a value is; the longest words are options and defaults."""
    settings = {"options", "default", "min", "max", "step", "round", "forceInput", "multiline"}
    for node in interface().values():
        assert node.keys() == {
            "required",
            "optional",
            "output",
            "output_name",
            "output_is_list",
            "output_node",
            "is_input_list",
        }
        for group in ("required", "optional"):
            for _, *given in node[group].values():
                assert set().union(*given) <= settings


def test_it_stays_small():
    assert sum(path.stat().st_size for path in FOLDER.rglob("*") if path.is_file()) < 3_000_000
