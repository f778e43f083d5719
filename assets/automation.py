"""What runs by itself, once it is switched on: data is kept fresh, training is asked for rarely.

A schedule observes the dataset repositories. Where a commit moved, the shards of its tasks are made
again; where their content really changed, the tokens below; where it did not, the wave stops there.
Mixture and model become stale in sight of everyone, and are made again on the retraining day only.
"""

import dagster as dg

A = dg.AutomationCondition

#: Every night: ask each repository for its commit.
OBSERVE_CRON = "0 3 * * *"
#: Monday morning: the one time a week at which changed data asks for training.
RETRAIN_CRON = "0 5 * * 1"

#: Seconds between two looks at what changed. Data changes nightly, and a look at all assets and
#: partitions takes most of a second of CPU.
TICK_S = 300

# ``eager`` asks for a whole chain at once, since "will be requested" counts as updated; comparing
# data versions asks for one floor at a time, and only where something is different.
_CHANGED = A.any_deps_match(A.data_version_changed()).since_last_handled()
# Every condition costs each tick, once for each input: what follows from another one is left out.
_IDLE = ~A.in_progress()
_QUIET = ~A.any_deps_match(A.run_in_progress()) & _IDLE


def refresh() -> dg.AutomationCondition:
    """For shards and tokens: what has been made before is made again when an input has another
    data version. A new task is made by hand the first time."""
    return (_CHANGED & _IDLE & ~A.missing()).with_label("an input changed")


def report() -> dg.AutomationCondition:
    """For the report over all shards: as ``refresh``, once it has been made. A dataset that is
    missing holds nothing up; the report is of those that are there."""
    return (_CHANGED & _QUIET & ~A.missing()).with_label("shards changed")


def retrain(cron: str = RETRAIN_CRON) -> dg.AutomationCondition:
    """For mixtures: as ``refresh``, at most once for each tick, and only for recipes that have
    been trained before. A dataset that is missing holds nothing up; the mixture leaves it out."""
    return (_CHANGED & _QUIET & A.cron_tick_passed(cron) & ~A.missing()).with_label(
        f"an input changed, by {cron}"
    )


def follow() -> dg.AutomationCondition:
    """For what lies below a mixture: made again with it, where it has been made before."""
    return (_CHANGED & _QUIET & ~A.missing()).with_label("an input was made anew")


def observe_schedule(job: object) -> dg.ScheduleDefinition:
    """The nightly observation, off until switched on."""
    return dg.ScheduleDefinition(
        name="observe_datasets", job=job, cron_schedule=OBSERVE_CRON,
        description="Every night: ask each dataset repository for its version. Nothing is fetched; "
        "the sensor \"automation\" makes again what changed.",
        default_status=dg.DefaultScheduleStatus.STOPPED,
    )  # fmt: skip


def sensor() -> dg.AutomationConditionSensorDefinition:
    """Evaluates the conditions above, off until switched on."""
    return dg.AutomationConditionSensorDefinition(
        "automation",
        description="Makes shards and tokens again where a dataset changed, and asks for training "
        "on Mondays at most; models only where they have been made before.",
        target=dg.AssetSelection.all(), minimum_interval_seconds=TICK_S,
        default_status=dg.DefaultSensorStatus.STOPPED,
    )  # fmt: skip
