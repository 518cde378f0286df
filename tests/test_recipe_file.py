import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from burnish.errors import RecipeError
from burnish.recipe import Recipe
from burnish.recipe_file import dump_recipe, load_recipe

DATA = "data: {sources: [{path: a.csv}]}\n"


def write(tmp_path, text):
    path = tmp_path / "my.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def load(tmp_path, text=DATA, *overrides):
    return load_recipe(write(tmp_path, text), overrides).recipe


def error(tmp_path, text=DATA, *overrides):
    with pytest.raises(RecipeError) as caught:
        load(tmp_path, text, *overrides)
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "train:\n  seed: 1\n  learning_rat: 1e-4\n",
            "my.yaml:4: train.learning_rat: there is no such setting. Did you mean learning_rate?",
        ),
        ("trian: {}\n", "my.yaml:2: trian: there is no such setting. Did you mean train?"),
        (
            "learning_rate: 1e-4\n",
            "my.yaml:2: learning_rate: there is no such setting. Did you mean train.learning_rate?",
        ),
        ("lora: {r: 8}\n", "my.yaml:2: lora: there is no such setting. Did you mean train.lora?"),
        (
            "train:\n  lora:\n    alpha: 8\n",
            "my.yaml:4: train.lora.alpha: there is no such setting. Did you mean lora_alpha?",
        ),
        (
            "merge: {zzz: 1}\n",
            "my.yaml:2: merge.zzz: there is no such setting. The settings here are dtype.",
        ),
    ],
)
def test_an_unknown_setting_is_refused_with_line_and_suggestion(tmp_path, text, expected):
    assert error(tmp_path, DATA + text) == expected


def test_an_unknown_setting_of_a_source_is_found_on_its_line(tmp_path):
    text = "data:\n  sources:\n    - path: a\n    - path: b\n      layot: alpaca\n"
    assert error(tmp_path, text) == (
        "my.yaml:5: data.sources[1].layot: there is no such setting. Did you mean layout?"
    )


def test_a_misspelt_section_is_told_rather_than_the_missing_one(tmp_path):
    assert error(tmp_path, "dta:\n  sources: []\n") == (
        "my.yaml:1: dta: there is no such setting. Did you mean data?"
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "train:\n  learning_rate: fast\n",
            "my.yaml:3: train.learning_rate: input should be a valid number; "
            "found 'fast' (str).\n  Peak learning rate.",
        ),
        (
            "serve: {port: 99999}\n",
            "my.yaml:2: serve.port: input should be less than or equal to 65535; "
            "found 99999 (int).\n  Port to listen on.",
        ),
        (
            "quantize: {bits: 3}\n",
            "my.yaml:2: quantize.bits: input should be 4 or 8; found 3 (int).\n  Bits of a weight.",
        ),
        (
            "model: {load_in_4bit: yes}\n",
            "my.yaml:2: model.load_in_4bit: input should be a valid boolean; found 'yes' (str).\n"
            "  Train and evaluate on a base quantized to 4 bits (nf4 with double quantization).",
        ),
        (
            "merge:\n",
            "my.yaml:2: merge: input should be a valid dictionary or instance of MergeSection; "
            "found None (NoneType).\n  How the adapter is merged.",
        ),
        ("train: {1: x}\n", "my.yaml:2: train[1]: keys should be strings; found 1 (int)."),
        (
            "model: {load_in_8bit: true, load_in_4bit: true}\n",
            "my.yaml:2: model: load_in_8bit and load_in_4bit exclude each other; choose one.",
        ),
    ],
)
def test_a_wrong_value_is_refused_with_line_what_was_found_and_help(tmp_path, text, expected):
    assert error(tmp_path, DATA + text) == expected


def test_a_wrong_member_of_a_union_is_named_like_the_key_in_the_file(tmp_path):
    text = "data:\n  sources:\n    - path: a\n      columns:\n        output: {{}}\n"
    for found in ("{a: b}", "5"):
        message = error(tmp_path, text.replace("{{}}", found))
        assert message.startswith("my.yaml:5: data.sources[0].columns.output: input should be ")


def test_a_recipe_without_data_is_refused(tmp_path):
    assert error(tmp_path, "train: {}\n") == (
        "my.yaml:1: data: this setting is required and absent.\n  See docs/recipe.md."
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: b: c", "my.yaml:1: this is not YAML: mapping values are not allowed here."),
        (DATA + "a: 'x", "my.yaml:2: this is not YAML: found unexpected end of stream."),
        (
            DATA + "run_dir: a\nrun_dir: b\n",
            'my.yaml:3: this is not YAML: found duplicate key "run_dir" with value "b" '
            '(original value: "a").',
        ),
        (
            "\ta: 1",
            "my.yaml:1: this is not YAML: found character '\\t' that cannot start any token.",
        ),
        (DATA + "---\nx: 1\n", "my.yaml:2: this is not YAML: found another document."),
    ],
)
def test_broken_yaml_is_refused_with_its_line(tmp_path, text, expected):
    assert error(tmp_path, text) == expected + "\n  Check indentation, colons and quotes."


def test_a_control_character_is_refused(tmp_path):
    assert error(tmp_path, "a: \0\n") == (
        "my.yaml: this is not YAML: unacceptable character #x0000: special characters are not "
        "allowed."
    )


@pytest.mark.parametrize(
    ("text", "found"), [("", "nothing"), ("# none\n", "nothing"), ("raw", "str"), ("3", "int")]
)
def test_a_file_without_sections_is_refused(tmp_path, text, found):
    assert error(tmp_path, text) == (
        f"my.yaml: a recipe is a list of sections; found {found}.\n"
        "  Begin with `data:` and a list of sources; see docs/recipe.md."
    )


def test_a_recipe_in_another_encoding_is_refused(tmp_path):
    assert error(tmp_path, (DATA + "run_dir: 跑\n").encode("gb18030")) == (
        "my.yaml: byte 42 is not UTF-8.\n  Save the recipe as UTF-8."
    )
    assert load(tmp_path, ("run_dir: 跑\n" + DATA).encode("utf-8-sig")).run_dir == "跑"


@pytest.mark.parametrize(
    "name, content",
    [
        ("my.csv", "问,答\n".encode("gb18030")),
        ("my.csv", b"ask,answer\nHow: a,Rest: b: c\n"),
        ("my.txt", b"raw"),
        ("my.json", b'[{"instruction": "a"}]'),
        ("my.docx", b"PK\0\0"),
    ],
)
def test_a_file_of_data_in_a_recipes_place_is_told_from_a_broken_recipe(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(RecipeError) as caught:
        load_recipe(tmp_path / name)
    assert caught.value.remedy == (
        "If this is your data, write a recipe for it with: burnish new DATAFILE"
    )


def test_a_missing_recipe_is_refused_and_a_similar_one_named(tmp_path):
    with pytest.raises(RecipeError) as caught:
        load_recipe(tmp_path / "mi.yaml")
    assert str(caught.value) == (
        f"{tmp_path}/mi.yaml: there is no such recipe.\n"
        "  Write one from your data with: burnish new DATAFILE"
    )
    write(tmp_path, DATA)
    with pytest.raises(RecipeError) as caught:
        load_recipe(tmp_path / "mi.yaml")
    assert caught.value.remedy == f"Did you mean {tmp_path}/my.yaml?"


def test_numbers_are_those_of_yaml_1_2(tmp_path):
    recipe = load(tmp_path, DATA + "train: {learning_rate: 2e-4, num_train_epochs: 2}\n")
    assert recipe.train.learning_rate == 0.0002
    assert recipe.train.num_train_epochs == 2.0


def test_anchors_and_merge_keys_keep_their_types(tmp_path):
    text = (
        DATA
        + "clean: {strip_html: &off false, drop_echo: *off}\n"
        + "prepare: &same {seed: 7}\ntrain:\n  <<: *same\n  max_steps: 3\n"
    )
    recipe = load(tmp_path, text)
    assert (recipe.clean.strip_html, recipe.clean.drop_echo) == (False, False)
    assert (recipe.train.seed, recipe.train.max_steps) == (7, 3)


@pytest.mark.parametrize(
    ("override", "path", "value"),
    [
        ("train.learning_rate=2e-4", "train.learning_rate", 0.0002),
        ("train.lora.r=8", "train.lora.r", 8),
        ("train.lora={r: 4}", "train.lora.r", 4),
        (" train.seed = 3 ", "train.seed", 3),
        ("model.load_in_4bit=true", "model.load_in_4bit", True),
        ("model.revision=null", "model.revision", None),
        ("model.revision='123'", "model.revision", "123"),
        ("run_dir=a=b", "run_dir", "a=b"),
        ("evaluate.prompts=[你好？, 'a: b']", "evaluate.prompts", ["你好？", "a: b"]),
        ("evaluate.prompts.0=x", "evaluate.prompts", ["x"]),
        ("model.name_or_path=", "model.name_or_path", ""),
    ],
)
def test_set_takes_any_yaml_value(tmp_path, override, path, value):
    found = load(tmp_path, DATA, override)
    for step in path.split("."):
        found = getattr(found, step)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("override", "paths"),
    [
        ("data.sources.0.path=b.csv", ["b.csv"]),
        ("data.sources[0].path=b.csv", ["b.csv"]),
        ("data.sources[1].path=b.csv", ["a.csv", "b.csv"]),
        ("data.sources=[{path: x}, {path: y}]", ["x", "y"]),
    ],
)
def test_set_reaches_into_lists_by_index(tmp_path, override, paths):
    assert [source.path for source in load(tmp_path, DATA, override).data.sources] == paths


def test_the_last_set_wins_over_the_file_and_over_earlier_ones(tmp_path):
    text = DATA + "train: {seed: 1}\n"
    assert load(tmp_path, text, "train.seed=2", "train.seed=3").train.seed == 3


def test_set_can_give_the_data_of_a_recipe_without_any(tmp_path):
    recipe = load(tmp_path, "train: {seed: 1}\n", "data.sources.0.path=b.csv")
    assert recipe.data.sources[0].path == "b.csv"


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("foo", "a setting has the form section.key=value.\n  For example: --set "),
        ("=3", "a setting has the form section.key=value.\n  For example: --set "),
        ("train..seed=3", "a setting has the form section.key=value.\n  For example: --set "),
        ("train.seed={", "the value is not YAML: while parsing a flow node."),
        ("data.sources.3.path=b", "3 has no place there.\n  See docs/recipe.md."),
        ("data.sources.x.path=b", "x has no place there.\n  See docs/recipe.md."),
        (
            "train.lora.rr=8",
            "train.lora.rr: there is no such setting. Did you mean r?",
        ),
        (
            "model.revision=123",
            "model.revision: input should be a valid string; found 123 (int).\n  Branch, tag",
        ),
        (
            "data.sources=[{path: 3}]",
            "data.sources[0].path: input should be a valid string; found 3 (int).\n  A csv",
        ),
        (
            "train=3",
            "train: input should be a valid dictionary or instance of TrainSection; found 3 (int).",
        ),
    ],
)
def test_a_fault_in_set_is_found_there_and_not_in_the_file(tmp_path, override, expected):
    assert error(tmp_path, DATA, override).startswith(f"--set {override}: {expected}")


def test_a_run_folder_is_a_recipe_and_the_run_stays_in_it(tmp_path):
    run = tmp_path / "moved"
    run.mkdir()
    recipe = Recipe.model_validate(
        {"run_dir": "runs/old", "data": {"sources": [{"path": "a.csv"}]}}
    )
    (run / "recipe.yaml").write_text(dump_recipe(recipe), encoding="utf-8")
    assert load_recipe(run).run_dir == run
    assert load_recipe(run, ["run_dir=/elsewhere"]).run_dir.as_posix() == "/elsewhere"


def test_a_folder_without_a_recipe_is_refused(tmp_path):
    with pytest.raises(RecipeError) as caught:
        load_recipe(tmp_path)
    assert str(caught.value) == (
        f"{tmp_path}: this folder holds no recipe.yaml.\n"
        "  Write one from your data with: burnish new DATAFILE"
    )


def test_the_run_folder_is_named_after_the_recipe(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert load_recipe(write(tmp_path, DATA)).run_dir == tmp_path / "runs" / "my"


@example("\x85", 1.0, True)
@example("a\u2028b\n\n c", 1.0, True)
@given(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
    st.floats(min_value=1e-300, max_value=1e300),
    st.booleans(),
)
def test_a_dumped_recipe_is_read_back_as_it_was(tmp_path_factory, text, number, flag):
    recipe = Recipe.model_validate(
        {
            "data": {"sources": [{"path": text}], "system_prompt": text},
            "train": {"learning_rate": number},
            "clean": {"strip_html": flag},
        }
    )
    path = tmp_path_factory.mktemp("dumped") / "r.yaml"
    path.write_text(dump_recipe(recipe), encoding="utf-8", newline="")
    assert load_recipe(path).recipe == recipe


def test_settings_of_two_sections_that_exclude_each_other_are_told_without_a_name(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text(
        "data: {sources: [{path: a.csv}]}\nmodel: {load_in_4bit: true}\ntrain: {method: full}\n"
    )
    with pytest.raises(RecipeError) as caught:
        load_recipe(path)
    assert str(caught.value).startswith("recipe.yaml:1: train.method: full trains weights of")
