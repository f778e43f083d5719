"""What the DAG touches outside itself: the store, the dataset source, the launcher, the tracker."""
