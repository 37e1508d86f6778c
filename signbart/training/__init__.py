"""What training shares whatever the framework: run folders, splits, metrics, schedules, folds."""
