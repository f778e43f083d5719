"""Old runs and their events are removed, except where an asset's present state rests on them."""

from datetime import UTC, datetime, timedelta

import dagster as dg

FINISHED = [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]


class RetentionConfig(dg.Config):
    """How long finished runs stay."""

    days: int = 90


@dg.op
def forget(context: dg.OpExecutionContext, config: RetentionConfig) -> None:
    """Delete finished runs older than ``days`` that made no asset partition's latest version."""
    instance = context.instance
    before = datetime.now(UTC) - timedelta(days=config.days)
    kept = latest_runs(instance)
    old = instance.get_runs(dg.RunsFilter(statuses=FINISHED, created_before=before))
    forgotten = [run.run_id for run in old if run.run_id not in kept]
    for run_id in forgotten:
        instance.delete_run(run_id)
    context.log.info(f"{len(forgotten)} of {len(old)} old runs deleted")


def latest_runs(instance: dg.DagsterInstance) -> set[str]:
    """Runs that made the latest materialization of some asset or partition."""
    kept: dict[tuple[dg.AssetKey, str | None], str] = {}
    for key in instance.all_asset_keys():
        cursor = None
        while True:
            page = instance.fetch_materializations(key, limit=1000, cursor=cursor)
            for record in page.records:  # newest first
                kept.setdefault((key, record.partition_key), record.run_id)
            if not page.has_more:
                break
            cursor = page.cursor
    return set(kept.values())


@dg.job(description="Delete old runs and their events.")
def forget_old_runs() -> None:
    """The job that the schedule starts."""
    forget()


schedule = dg.ScheduleDefinition(
    job=forget_old_runs,
    cron_schedule="0 4 * * 0",
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description="Every Sunday: delete runs older than 90 days that no asset's present state needs.",
)
