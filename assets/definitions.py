"""All assets of a plan, and the jobs over them."""

from itertools import groupby

import dagster as dg

from assets.evaluation import evaluation_asset, leaderboard_asset
from assets.mixture import mixture_asset
from assets.overlap import overlap_asset
from assets.partitions import Plan
from assets.shards import problem_asset, repository_asset, repository_key, shards_asset
from assets.tokens import base_asset, tokens_asset
from assets.training import finetuned_asset, prefinetuned_asset
from muppet_dag.catalogue import PROBLEMS, TASKS


def all_assets(plan: Plan) -> list[dg.AssetsDefinition]:
    """Every asset of the DAG, top to bottom."""
    tasks = sorted(TASKS.values(), key=lambda task: task.dataset.repository)
    repositories = groupby(tasks, key=lambda task: task.dataset.repository)
    return [
        *(repository_asset(name, list(members)) for name, members in repositories),
        *(shards_asset(task) for task in TASKS.values()),
        *(problem_asset(name, problem) for name, problem in PROBLEMS.items()),
        overlap_asset(),
        base_asset(plan),
        *(tokens_asset(task, plan) for task in TASKS.values() if plan.readers(task.name)),
        mixture_asset(plan),
        prefinetuned_asset(plan),
        *(finetuned_asset(task, plan) for task in plan.downstream),
        *(evaluation_asset(task, plan) for task in plan.downstream),
        leaderboard_asset(plan),
    ]


def all_jobs(plan: Plan) -> list:
    """What people start by name, a floor each; a partitioned job asks for its partition. No job may
    have the name of an asset that stands alone, as ``overlap`` does."""
    repositories = {repository_key(task.dataset.repository) for task in TASKS.values()}
    one = [
        ("observe", dg.AssetSelection.keys(*sorted(repositories)),
         "Ask every dataset repository for its version; nothing is fetched."),
        ("shards", dg.AssetSelection.key_prefixes("shards"),
         "Fetch and normalise every task. One that fails stops no other."),
        ("overlap_report", dg.AssetSelection.keys("overlap"),
         "Find the training rows that evaluation splits hold; mixtures ask for this report."),
        ("base_models", dg.AssetSelection.keys("base_model"),
         "Bring a base model into the store."),
        ("tokens", dg.AssetSelection.key_prefixes("tokens"),
         "Tokenize every task for one tokenizer. A task without shards fails alone."),
        ("prefinetune", dg.AssetSelection.keys("mixture", "prefinetuned"),
         "Draw the mixture of a recipe and train on it."),
        ("compare", dg.AssetSelection.keys("leaderboard"),
         "Compare all evaluations that there are."),
    ]  # fmt: skip
    below = [
        (f"finetune_{task}", dg.AssetSelection.keys(["finetuned", task], ["evaluation", task]),
         f"Fine-tune {task} from one arm, a base model or a pre-finetuned one, and score it.")
        for task in plan.downstream
    ]  # fmt: skip
    return [
        dg.define_asset_job(name, selection, description=description)
        for name, selection, description in (*one, *below)
    ]
