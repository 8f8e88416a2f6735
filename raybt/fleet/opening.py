"""Opening a run folder: made new, or found again and held against the config."""

import yaml
from safetensors.numpy import save

from raybt.fleet.job import BANK, TEXTS_FILE
from raybt.load import dump_yaml, validate
from raybt.plan.changes import compare, compare_prompts
from raybt.plan.rows import Plan
from raybt.store.folder import RunFolder, run_root
from raybt.store.manifest import Manifest, ModelEntry, begin, read_config_yaml, read_manifest, update_plan
from raybt.store.schemas import PROMPTS
from raybt.store.schemas.study import MEASUREMENTS, TEXTS
from raybt.store.shards import KINDS


def run_folder(plan: Plan) -> RunFolder:
    return RunFolder(run_root(plan.config.artifacts, plan.config.name))


def open_run(plan: Plan, folder: RunFolder, allow_mixed: bool = False) -> None:
    """Put config, plan and prompts into the run's folder; the manifest is written last.

    Args:
        allow_mixed: whether rows in another precision may come beside those that are there.

    Raises:
        UserError: the folder holds a run whose rows this config would change.
    """
    config, facts = plan.config, plan.facts
    tables = {"plan.parquet": plan.rows, "prompts.parquet": plan.prompts, "conditions.parquet": plan.conditions}
    manifest = read_manifest(folder)
    changes = (
        changes_since(plan, folder, manifest, allow_mixed) if manifest else []
    )  # refused before anything is written
    if plan.bank:
        folder.commit(BANK, save(plan.bank))
    if plan.texts.num_rows:
        folder.commit_table(TEXTS_FILE, plan.texts, TEXTS)
        folder.commit_table("measurements.parquet", plan.measurements, MEASUREMENTS)
    if manifest is None:
        model = ModelEntry(
            name=config.model.name, path=facts.path, revision=facts.revision, fingerprint=facts.fingerprint
        )
        begin(folder, config.name, model, dump_yaml(config), tables)
    else:
        update_plan(folder, changes, dump_yaml(config), tables)


def changes_since(plan: Plan, folder: RunFolder, manifest: Manifest, allow_mixed: bool = False) -> list[str]:
    """What the config changes about the run in the folder, where that voids no row.

    Raises:
        UserError: it would change the keys of rows that are there, or their precision.
    """
    old = validate(yaml.safe_load(read_config_yaml(folder)))
    changes = compare(old, plan.config, manifest.model.fingerprint, plan.facts.fingerprint)
    changes += compare_prompts(folder.read_table("prompts.parquet", PROMPTS), plan.prompts)
    changes.check(plan.config.name)
    beside_others = bool(changes.mixed) and any(folder.list(kind) for kind in KINDS)
    if beside_others and not allow_mixed:
        changes.check_mixed(plan.config.name)
    return changes.accepted(beside_others)
