"""The results report over folds: tables, pages, pictures."""
