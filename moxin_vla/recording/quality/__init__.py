"""What is wrong with a dataset: one file per check, findings in words."""
