"""The house: modules import only what stands before them, and stay small."""

import ast
from pathlib import Path

import ec_sweep

PACKAGE = Path(ec_sweep.__file__).parent
ORDER = """
    errors versions hints machine paths outages direct databases documents documented schemas
    refusals hyperparameters encoding baselines cpu_layers models own_building own_models weights
    space cell spec sweep_schema
    ec uniprot fetching
    fields opening enzyme_files names transfers tabular fasta flatfile parquet headers formats
    records splits clustering merging cards sources importing
    recipes datasets labelling dividing packing building cell_data
    stopping metrics glossary saving attempts checkpoints evaluation failures calibrating sharing
    estimating networks feeding training trial worker worker_process executors local_executor
    locations node_files agents cluster membership agent_handle ray_executor
    ledger ledger_store mlflow_store page_view study_page stored logged_models tracking experiments
    recalling holders server_lock locks recording pruning sampling plan display study planning gone
    earlier estimates
    published report evidence claims analysis layouts leakage supplement tables drawing inlining
    figures heatmaps pictures writing origins markup page publishing describing progress outlook
    places findings doctor_files doctor_models doctor_tracking doctor_studies doctor
    sequences serving served_model choosing predicting
    app ui dashboard cancelling columns output messages voice completing options running frames api
    starting
    cli_fetch cli_build cli_data cli_init cli_report cli_care cli_predict cli_browse cli_study cli
""".split()  # noqa: SIM905 - an order reads better as a line
LONGEST = 350  # lines of a module


def imports(module: str, top_level_only: bool = False) -> set[str]:
    tree = ast.parse((PACKAGE / f"{module}.py").read_text())
    nodes = tree.body if top_level_only else list(ast.walk(tree))
    found: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def test_every_module_stands_in_the_order() -> None:
    """A new module gets a place in the house."""
    modules = {path.stem for path in PACKAGE.glob("*.py")} - {"__init__"}
    assert modules == set(ORDER)


def test_modules_import_only_backwards() -> None:
    """Imports run in one direction along the order."""
    for place, module in enumerate(ORDER):
        own = {name.split(".")[1] for name in imports(module) if name.startswith("ec_sweep.")}
        later = {name for name in own if name in ORDER[place:]}
        assert not later, f"{module} imports {later}"


def test_only_workers_know_keras() -> None:
    """TensorFlow is imported in workers alone."""
    for module in ORDER:
        heavy = {name for name in imports(module) if name.split(".")[0] in ("keras", "tensorflow")}
        assert not heavy or module in (
            "cpu_layers",
            "models",
            "own_building",
            "networks",
            "feeding",
            "training",
            "trial",
        )
    assert not {n for n in imports("models", top_level_only=True) if n.startswith("keras")}


def test_modules_fit_in_the_head() -> None:
    """One job each: no module grows without end."""
    for module in ORDER:
        lines = len((PACKAGE / f"{module}.py").read_text().splitlines())
        assert lines <= LONGEST, f"{module} has {lines} lines"


def test_functions_fit_on_a_screen() -> None:
    """No function is longer than 60 lines."""
    for module in ORDER:
        for node in ast.walk(ast.parse((PACKAGE / f"{module}.py").read_text())):
            if isinstance(node, ast.FunctionDef):
                length = (node.end_lineno or 0) - node.lineno + 1
                assert length <= 60, f"{module}.{node.name} has {length} lines"
