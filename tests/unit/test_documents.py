"""The documents tell the truth: every table, name and link in them agrees with the code."""

from __future__ import annotations

import ast
import json
import re
import shlex
import tomllib
from pathlib import Path
from statistics import median
from typing import Any

import pytest
import reference
import reliability
from dotenv import dotenv_values
from reference import shown_default

from collector.core.errors import Code, Fault
from collector.core.maintenance import Kind
from collector.settings import Settings, load_settings
from collector.sources.wallhaven import CollectionName, Query
from collector.sources.wallhaven.links import parse_link

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()
HOW_TO = {path.stem: path.read_text() for path in (ROOT / "docs/how-to").glob("*.md")}
ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text()
EXAMPLE = (ROOT / ".env.example").read_text()
MARKDOWN = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
DOCUMENTS = [*MARKDOWN, ROOT / ".env.example"]

_CELL_BORDER = re.compile(r"(?<!\\)\|")


def table(text: str, first_heading: str) -> list[list[str]]:
    """Return the cells of the one table whose first column is headed so, row by row."""
    lines = text.splitlines()
    (start,) = [n for n, line in enumerate(lines) if line.startswith(f"| {first_heading} |")]
    rows = []
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in _CELL_BORDER.split(line)[1:-1]])
    return rows


def bare(cell: str) -> str:
    """Return a cell without its code marks."""
    return cell.strip("`")


def spans(cell: str) -> list[str]:
    """Return all that is marked as code in a cell."""
    return re.findall(r"`([^`]+)`", cell)


def blocks(kind: str, text: str) -> list[str]:
    """Return the code blocks of a page that are marked so, in order."""
    return re.findall(rf"^```{kind}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


SETTING_NAMES = [name.upper() for name in Settings.model_fields]


def test_the_readme_is_short() -> None:
    assert len(README.splitlines()) <= 200


@pytest.mark.parametrize("name", reference.pages())
def test_the_reference_is_what_code_and_settings_say(name: str) -> None:
    page = (ROOT / "docs/reference" / name).read_text()
    assert page == reference.pages()[name], "run `make reference`"


def test_every_variable_of_the_stack_is_listed_with_its_default() -> None:
    compose = (ROOT / "docker-compose.yml").read_text()
    defaults = dict(re.findall(r"\$\{(\w+):?-([^${}]*)\}", compose))
    listed = {
        bare(name): bare(default) for name, default, _ in table(HOW_TO["airflow"], "variable")
    }
    assert listed == {name: it for name, it in defaults.items() if name not in SETTING_NAMES}


def test_the_readme_names_ten_settings_with_their_defaults() -> None:
    rows = [(bare(name), bare(default)) for name, default, _ in table(README, "setting")]
    assert len(rows) == 10
    assert rows == [(name, shown_default(name) or "unset") for name, _ in rows]


def test_the_example_file_explains_every_setting() -> None:
    sections = reference.example_sections(EXAMPLE)
    explained = {name: text for settings in sections.values() for name, text in settings.items()}
    assert set(explained) == set(SETTING_NAMES)
    assert [name for name, text in explained.items() if not text.endswith(".")] == [
        "COLLECTOR_HOME"
    ]


def test_the_example_file_lists_every_setting_once_with_its_default() -> None:
    listed = re.findall(r"^#?([A-Z0-9_]+)=(.*)$", EXAMPLE, re.MULTILINE)
    assert sorted(name for name, _ in listed) == sorted(SETTING_NAMES)
    assert dict(listed) == {name: shown_default(name) for name in SETTING_NAMES}


def test_the_example_file_changes_nothing_even_with_every_line_uncommented(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in SETTING_NAMES:
        monkeypatch.delenv(name, raising=False)
    uncommented = re.sub(r"^#(?=[A-Z0-9_]+=)", "", EXAMPLE, flags=re.MULTILINE)
    path = tmp_path / ".env"
    path.write_text(uncommented.replace("S3_ENDPOINT_URL=\n", ""))
    assert load_settings(path) == load_settings()


# How the blocks of each kind are kept true: `sh` and `sql` by tests/end_to_end/test_readme.py,
# `bash` by tests/airflow/documents.py, `toml` by the tests of profiles, `json` and `ini` here,
# `python` by the test of its page. What a command prints is `text`.
KINDS = {"mermaid", "sh", "bash", "sql", "text", "json", "toml", "ini", "python"}


@pytest.mark.parametrize("path", MARKDOWN, ids=lambda path: path.name)
def test_every_block_is_of_a_known_kind(path: Path) -> None:
    fences = re.findall(r"^```(.*)$", path.read_text(), re.MULTILINE)
    assert set(fences[::2]) <= KINDS
    assert set(fences[1::2]) <= {""}


def test_settings_in_blocks_are_accepted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in SETTING_NAMES:
        monkeypatch.delenv(name, raising=False)
    found = [block for path in MARKDOWN for block in blocks("ini", path.read_text())]
    assert found
    for block in found:
        (tmp_path / "my.env").write_text(block)
        settings = load_settings(tmp_path / "my.env")
        for name, value in dotenv_values(tmp_path / "my.env").items():
            assert getattr(settings, name.lower()) == value


def test_the_codes_with_advice_are_codes() -> None:
    advised = [code for codes, _ in table(HOW_TO["dead-letters"], "code") for code in spans(codes)]
    assert advised
    assert set(advised) <= set(Code)


def test_the_differences_are_the_kinds_of_the_code() -> None:
    documented = [bare(kind) for kind, _ in table(HOW_TO["verify"], "difference")]
    assert documented == list(Kind)


def test_the_page_of_reliability_is_what_the_tests_said() -> None:
    page = (ROOT / "docs/reliability.md").read_text()
    results = reliability.stored_results()
    assert page == reliability.rendered(page, results)
    listed = [case for area in reliability.AREAS for case in reliability.cases(area)]
    listed += reliability.cases(reliability.THREATS)
    assert {case.id for case in listed if not case.excluded} <= results.keys()
    assert [name for name, result in results.items() if not result.held] == []


def test_the_reference_of_commands_has_every_one_once() -> None:
    page = (ROOT / "docs/reference/commands.md").read_text()
    documented = re.findall(r"^## (.*)$", page, re.MULTILINE)
    assert {"run", "dead requeue", "verify", "version"} <= set(documented)
    assert len(documented) == len(set(documented))


def test_every_make_target_is_listed() -> None:
    makefile = (ROOT / "Makefile").read_text()
    (phony,) = re.findall(r"^\.PHONY:((?:.*\\\n)*.*)$", makefile, re.MULTILINE)
    page = (ROOT / "docs/reference/make.md").read_text()
    listed = {bare(name) for name, _ in table(page, "target")}
    assert listed == set(re.findall(r"[\w-]+", phony)) - {"help"}
    assert listed <= set(re.findall(r"^\t@echo \"make ([\w-]+) ", makefile, re.MULTILINE))


def test_what_can_be_mirrored_can_be_asked_for() -> None:
    questions = []
    for _, cell in table(HOW_TO["choose"], "to mirror"):
        program, command, *option, value = shlex.split(bare(cell))
        assert (program, command) == ("collector", "run")
        named = {option[0].removeprefix("--"): value} if option else parse_link(value)
        changes = {f"wallhaven_{name}": each for name, each in named.items()}
        questions.append(Settings(**changes).question)
    *searches, collection, everything, seen_in_a_browser = questions
    assert seen_in_a_browser == Query("nature", atleast="1920x1080")
    assert [type(question) for question in searches] == [Query] * 3
    assert isinstance(collection, CollectionName)
    assert isinstance(everything, Query)
    assert everything.narrowing == ()


def test_the_policy_grants_the_rights_of_the_table_and_no_deletion() -> None:
    (policy,) = blocks("json", HOW_TO["aws"])
    statements = json.loads(policy)["Statement"]
    granted = {action for statement in statements for action in statement["Action"]}
    assert granted == {bare(right) for right, _ in table(HOW_TO["aws"], "right")}
    assert not [action for action in granted if "Delete" in action or "*" in action]


def test_the_figures_of_scaling_are_the_stored_ones() -> None:
    scaling = HOW_TO["many-workers"]
    (measured,) = stored("celery.json")["runs"]
    assert f"{measured['uploaded'] + measured['adopted']:,} images" in scaling
    shared = stored("transfer_full.json")
    backlog, slow = shared["one_backlog"], shared["slow_source"]
    assert f"{backlog['images']:,} small images" in scaling
    assert backlog["puts"] == backlog["stored"] == backlog["images"]
    assert f"{slow['times_faster']} times as fast" in scaling
    short, *_, long = shared["claims"]["backlogs"]
    text = " ".join(scaling.split())
    assert f"touched {shared['claims']['times_the_shortest'][-1]} times as many pages" in text
    assert f"a backlog of {long['rows']:,} as in one of {short['rows']:,}" in text


def test_the_figures_of_verify_are_the_stored_ones() -> None:
    measured = stored("verify.json")
    few, many, deep = (measured[name] for name in ("few", "many", "deep"))
    more = many["peak_rss_mb"] - few["peak_rss_mb"]
    assert (
        f"{many['objects']:,} objects took {many['seconds']} s and {many['peak_rss_mb']} MB of"
        f" memory, {more} MB more than {few['objects']:,} did, and `--deep` read"
        f" {deep['objects_per_second']} small ones a second"
    ) in " ".join(HOW_TO["verify"].split())


def test_the_messages_of_troubleshooting_are_those_of_the_code() -> None:
    code = "".join(path.read_text() for path in (ROOT / "collector").rglob("*.py"))
    code = re.sub(r"\"\n\s*f?\"|`", "", code)  # texts over several lines, commands in backquotes
    rows = table(README, "what you see")
    assert len(rows) == 10
    shown = [text for seen, _ in rows for text in spans(seen) if " " in text]
    assert len(shown) > 5
    parts = [part.strip() for text in shown for part in re.split(r"\.\.\.|HOST:PORT", text)]
    without_commands = [part for part in parts if len(part) > 5 and not part.startswith("kill")]
    assert [part for part in without_commands if part not in code] == []


def test_the_first_readme_stands_word_for_word() -> None:
    source = ROOT / "tests/integration/catalog/test_schema.py"
    values = {
        node.targets[0].id: node.value
        for node in ast.parse(source.read_text()).body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
    }
    assert ast.literal_eval(values["FIRST_README"]).strip() in README


def test_the_floors_are_those_of_the_contracts() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    contracts = project["tool"]["importlinter"]["contracts"]
    (floors,) = [contract for contract in contracts if contract["type"] == "layers"]
    documented = [re.findall(r"`(\w+)`", modules) for _, modules, _ in table(ARCHITECTURE, "floor")]
    assert documented == [re.findall(r"\w+", layer) for layer in floors["layers"]]
    described = ARCHITECTURE.partition("The contracts, in words:")[2].partition("\n## ")[0]
    assert len(re.findall(r"^\d\. \*\*", described, re.MULTILINE)) == len(contracts)


def test_the_tables_are_those_of_the_schema() -> None:
    schema = "".join(path.read_text() for path in sorted((ROOT / "sql").glob("*.sql")))
    made = re.findall(r"CREATE TABLE IF NOT EXISTS draenei_content\.(\w+)", schema)
    assert {bare(name) for name, *_ in table(ARCHITECTURE, "table")} == set(made)
    drawn = re.findall(r"^    (\w+) [|}][|o]--\S+ (\w+) :", ARCHITECTURE, re.MULTILINE)
    assert drawn
    assert {name for pair in drawn for name in pair} <= set(made)


def test_states_and_faults_are_those_of_the_code() -> None:
    schema = (ROOT / "sql/001_create_tables.sql").read_text()
    (states,) = re.findall(r"CHECK \(state IN \((.*?)\)\)", schema)
    assert [bare(state) for state, _ in table(ARCHITECTURE, "state")] == re.findall(r"\w+", states)
    assert [bare(fault) for fault, *_ in table(ARCHITECTURE, "fault")] == [str(f) for f in Fault]


# The page of tables is made from the catalog; its functions are PostgreSQL's.
@pytest.mark.parametrize(
    "path", [path for path in MARKDOWN if path.name != "tables.md"], ids=lambda path: path.name
)
def test_every_path_and_function_that_is_named_exists(path: Path) -> None:
    named = re.findall(r"`([^`\n]+)`", path.read_text())
    paths = [n for n in named if re.fullmatch(r"(collector|sql|tests|docs)/[\w./-]*", n)]
    missing = [name for name in paths if not (ROOT / name).exists()]
    code = "".join(file.read_text() for file in (ROOT / "collector").rglob("*.py"))
    functions = re.findall(r"`(\w+)\(\)`", path.read_text())
    missing += [name for name in functions if f"def {name}(" not in code]
    assert missing == []


def test_the_architecture_names_its_modules() -> None:
    named = set(re.findall(r"collector/[\w/]+\.py", ARCHITECTURE))
    assert len(named) > 20
    assert [name for name in sorted(named) if not (ROOT / name).is_file()] == []


def anchors(path: Path) -> set[str]:
    """Return what a heading of a page can be linked by."""
    headings = re.findall(r"^#+ (.*)$", path.read_text(), re.MULTILINE)
    return {
        re.sub(r"[^\w -]", "", heading).strip().lower().replace(" ", "-") for heading in headings
    }


@pytest.mark.parametrize("path", MARKDOWN, ids=lambda path: path.name)
def test_every_link_is_relative_and_leads_somewhere(path: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", path.read_text()):
        target, _, anchor = link.partition("#")
        assert not re.match(r"[a-z]+:|/", target), link
        found = (path.parent / target).resolve() if target else path
        assert found.exists(), link
        assert not anchor or anchor in anchors(found), link


def test_every_decision_is_listed() -> None:
    for path in (ROOT / "docs/decisions").glob("*.md"):
        assert f"(decisions/{path.name})" in ARCHITECTURE


def stored(name: str) -> Any:
    """Return a stored result of a measurement; each says how and when it was made."""
    result = json.loads((ROOT / "benchmarks/results" / name).read_text())
    assert "date" in result
    return result


def test_the_figures_of_decision_0005_are_the_stored_ones() -> None:
    decision = (ROOT / "docs/decisions/0005-bodies-by-signed-requests.md").read_text()
    results = stored("body_uploads.json")["results"]
    base = median(results["signed_headers"])
    assert [cells[1:] for cells in table(decision, "way")] == [
        [f"{min(spent):.2f} to {max(spent):.2f}", f"{median(spent) / base:.1f}"]
        for spent in results.values()
    ]


def test_the_figures_of_decision_0004_are_the_stored_ones() -> None:
    decision = (ROOT / "docs/decisions/0004-staging-ledger-and-merge.md").read_text()
    rates = stored("servers_before_the_first_line.json")["bulk_load_100000_rows_of_20_columns"]
    assert [int(rate) for _, rate, _ in table(decision, "way")] == [
        rate for rate in rates.values() if isinstance(rate, int)
    ]


def test_the_figures_of_decision_0008_are_the_stored_ones() -> None:
    decision = (ROOT / "docs/decisions/0008-one-budget-for-all-processes.md").read_text()
    assert table(decision, "processes") == [
        [
            str(run["processes"]),
            str(run["slots"]),
            f"{100 * run['share_used']:.1f} %",
            str(run["refused"]),
            f"{run['seconds_per_window']:.3f}",
        ]
        for run in stored("rate_limit.json")["runs"]
    ]


def test_the_figures_of_decision_0010_are_the_stored_ones() -> None:
    decision = (ROOT / "docs/decisions/0010-fast-client.md").read_text()
    measured = stored("transfer.json")
    costs = [measured[ends]["costs"] for ends in ("http", "tls")]
    names = ("ours", "ours_by_aiohttp", "rclone", "zero_sha256", "zero_sockets")
    assert [row[1:] for row in table(decision, "client")] == [
        [str(cost[name]["cpu_seconds_per_gb"]) for cost in costs] for name in names
    ]
    ratios = (
        *("cpu_to_rclone_without_sha256", "cpu_to_rclone"),
        *("speed_of_two_processes_to_rclone", "speed_of_the_zero_line_to_rclone"),
    )
    assert [row[1:] for row in table(decision, "compared with rclone")] == [
        [str(measured[ends][ratio]) for ends in ("http", "tls")] for ratio in ratios
    ]
    speed = measured["original"]["speed_of_two_processes_to_original"]
    said = f"{speed} times the images per second of the synchronous original"
    assert said in " ".join(decision.split())
    small = measured["small"]["cpu_milliseconds_each"]
    assert f"{small['ours']} ms of CPU, rclone {small['rclone']} ms" in decision
    memory = measured["memory"]
    assert f"{memory['peak_rss_mb']} MB" in decision
    assert f"budget of {memory['budget_mb']} MB" in decision


def test_the_figures_of_the_whole_load_are_the_stored_ones() -> None:
    decision = (ROOT / "docs/decisions/0004-staging-ledger-and-merge.md").read_text()
    measured = stored("load.json")
    units = ("rows_per_second", "rows_per_cpu_second")
    assert [[int(rate) for rate in rates] for _, *rates in table(decision, "contender")] == [
        [found[name][unit] for unit in units for name in ("new", "unchanged")]
        for found in measured["results"].values()
    ]
    assert f"{measured['wallpapers']:,} wallpapers" in decision
    parsed = measured["parse_only_rows_per_cpu_second"]
    assert f"(alone {parsed} rows per CPU" in " ".join(decision.split())
    peer, bound = "execute_values_commit_per_50_pages", "copy_without_validation_and_ledger"
    new, unchanged = (
        measured["results"][bound][name]["rows_per_second"]
        / measured["results"][peer][name]["rows_per_second"]
        for name in ("new", "unchanged")
    )
    assert f"reaches {new:.1f} times for new rows and {unchanged:.1f} for unchanged" in decision
    ratios = measured["ratios_of_rows_per_second"]
    ours = ("ours_daily", "ours_backfill")
    assert [[float(it) for it in cells] for _, *cells in table(decision, "compared with")] == [
        [ratios[own][peer][name] for own in ours for name in ("new", "unchanged")]
        for peer in ratios["ours_daily"]
    ]
    for own in ours:
        written = measured["results"][own]["unchanged"]["tuples_written"]
        tables = ("wallpapers", "wallpaper_counters", "transfers")
        assert [written[name] for name in tables] == [[0]] * 3


def test_the_seconds_of_the_readme_are_the_stored_ones() -> None:
    setup, first, _ = stored("demo.json")["runs"]
    work_seconds = first["run_audit"]["duration_seconds"]
    (shown,) = re.findall(
        r"Set-up took (\d+) s here and the first demo (\d+) s, of which the run itself took\s(\d+)",
        README,
    )
    figures = (setup["wall_seconds"], first["wall_seconds"], work_seconds)
    assert [int(text) for text in shown] == [round(figure) for figure in figures]
    assert f"duration_seconds      {work_seconds}" in README


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_the_project_speaks_of_itself_alone(path: Path) -> None:
    text = path.read_text()
    assert text.isascii()
    places = r"(?<![\w.])/(tmp|root|home|work|opt|usr|var|Users|mnt)\b"
    hosts = r"\bpy[p]i\b|python[h]osted|npm[j]s|registry\.|index-url|conda\b"
    assert re.findall(f"{places}|{hosts}|TO[D]O|FIX[M]E", text, re.IGNORECASE) == []
